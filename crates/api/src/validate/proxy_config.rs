//! ProxyConfig by itself (V-106).

use super::{Findings, selector};
use crate::proxy_config::{ProxyConfigSpec, ProxyImage};

/// Istio's variants of the proxy's image.
const VARIANTS: [&str; 4] = ["", "default", "debug", "distroless"];

pub(super) fn check(spec: &ProxyConfigSpec, found: &mut Findings) {
    let ProxyConfigSpec { selector, concurrency: _, environment_variables, image } = spec;
    let labels = selector.as_ref().map(|selector| &selector.match_labels);
    selector::check("spec.selector.matchLabels", labels, "the whole namespace", found);
    for name in environment_variables.keys() {
        let is_name = !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit());
        if !is_name || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
            let field = format!("spec.environmentVariables.{name}");
            found.error(field, format!("{name:?} is no name of an environment variable"));
        }
    }
    let variant = image.as_ref().and_then(|ProxyImage { image_type }| image_type.as_deref()).unwrap_or_default();
    if !VARIANTS.contains(&variant) {
        found.error("spec.image.imageType", format!("{variant:?} is none of default, debug, distroless"));
    } else if variant == "debug" {
        found.add(
            "SLU0100",
            words::Severity::Warning,
            "spec.image.imageType",
            "imageType is not obeyed: there is one image, without a shell",
            "set the annotation sidecar.istio.io/proxyImage",
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn proxy_configs_are_checked() {
        let found = |spec: &str| -> Vec<String> {
            let head = "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {name: it}\nspec: ";
            let documents = crate::inspect_yaml(&format!("{head}{spec}\n"), "it.yaml");
            documents
                .iter()
                .flat_map(|one| &one.findings)
                .map(|found| format!("{} {}", found.severity, found.field))
                .collect()
        };
        assert_eq!(
            found("{concurrency: 2, environmentVariables: {A_B.c-1: x}, image: {imageType: distroless}}"),
            [""; 0]
        );
        assert_eq!(found("{concurrency: -1}"), ["Error spec.concurrency"]);
        assert_eq!(found("{environmentVariables: {1a: x}}"), ["Error spec.environmentVariables.1a"]);
        assert_eq!(found("{image: {imageType: huge}}"), ["Error spec.image.imageType"]);
        assert_eq!(found("{image: {imageType: debug}}"), ["Warning spec.image.imageType"]);
        assert_eq!(found("{selector: {matchLabels: {}}}"), ["Warning spec.selector.matchLabels"]);
    }
}
