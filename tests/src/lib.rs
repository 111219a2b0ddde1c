//! What the suites share: a control plane, proxies and Envoys as processes on loopback, and a case run through them.

pub mod calls;
pub mod case;
pub mod cluster;
pub mod collector;
pub mod envoy;
pub mod kube;
pub mod load;
pub mod mesh;
pub mod scene;
pub mod skip;
