//! RequestAuthentication: which JSON Web Tokens are valid (`security.istio.io`, Istio RA01).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::telemetry::TargetRef;
use crate::{Duration, lenient};

use crate::authorization_policy::PolicySelector;

/// The spec of a RequestAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "only one of targetRefs or selector can be set",
    "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1"
}]))]
pub struct RequestAuthenticationSpec {
    /// Which workloads of the namespace; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<PolicySelector>,
    /// The one thing that it is for, instead of a selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What it is for, instead of a selector.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// Who issues tokens, and how they are verified.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub jwt_rules: Vec<JwtRule>,
}

/// An issuer of tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "only one of jwks or jwksUri can be set",
    "rule": "(has(self.jwksUri) ? 1 : 0) + (has(self.jwks_uri) ? 1 : 0) + (has(self.jwks) ? 1 : 0) <= 1"
}]))]
pub struct JwtRule {
    /// The claim `iss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub issuer: Option<String>,
    /// One of these must be in the claim `aud`; any when empty.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Named>")]
    pub audiences: Vec<String>,
    /// Where its public keys are (RFC 7517).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = [{"message": "url must have scheme http:// or https://", "rule": "url(self).getScheme() in [\"http\", \"https\"]"}]))]
    pub jwks_uri: Option<String>,
    /// The same by its other name.
    #[serde(default, rename = "jwks_uri", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = [{"message": "url must have scheme http:// or https://", "rule": "url(self).getScheme() in [\"http\", \"https\"]"}]))]
    pub jwks_uri_alias: Option<String>,
    /// Its public keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// Headers that have the token.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters that have the token.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Named>")]
    pub from_params: Vec<String>,
    /// Cookies that have the token.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Named>")]
    pub from_cookies: Vec<String>,
    /// The upstream finds the payload of a valid token here, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_payload_to_header: Option<String>,
    /// The upstream gets the token too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_original_token: Option<bool>,
    /// The upstream finds claims in headers.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// How long fetching the keys may take; 5 s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Claims whose text is a list with spaces, besides `scope` and `permission`.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), with = "Vec<Named>")]
    pub space_delimited_claims: Vec<String>,
}

// A text of a list that is not empty.
#[derive(JsonSchema)]
struct Named(
    #[schemars(length(min = 1))]
    #[expect(dead_code, reason = "for the schema only")]
    String,
);

/// A header that has a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtHeader {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-required" = true), length(min = 1))]
    pub name: Option<String>,
    /// What stands before the token, `Bearer `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// A claim that the upstream gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// The header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-required" = true), length(min = 1), regex(pattern = "^[-_A-Za-z0-9]+$"))]
    pub header: Option<String>,
    /// The claim, `a.b` for one inside another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-sluice-required" = true), length(min = 1))]
    pub claim: Option<String>,
}

impl JwtRule {
    /// Where its public keys are, by either name.
    pub fn keys_uri(&self) -> Option<&str> {
        self.jwks_uri.as_deref().or(self.jwks_uri_alias.as_deref()).filter(|uri| !uri.is_empty())
    }
}
