//! ADS sessions for both ends, sans-IO; grpc is the only tonic edge.
