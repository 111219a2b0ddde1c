//! Bookinfo as small servers, and the demo that runs them with a sidecar each.
