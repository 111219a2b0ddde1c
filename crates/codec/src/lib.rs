//! config to Envoy protobuf and back, a feature's two directions side by side. Pure.
