//! Where changes come from: Kubernetes, or a directory of YAML.
