//! Listen, original destination, sniff, exchange over HTTP/1 and HTTP/2, pools, drain. No policy.
