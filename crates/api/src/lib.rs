//! What people write: Istio's custom resources and Kubernetes objects, narrowed; parse and validate.
