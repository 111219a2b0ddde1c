//! Whose tokens are believed: JSON Web Tokens of requests (Envoy `jwt_authn.v3`, Istio RA01).

use std::time::Duration;

use serde::Serialize;

use crate::Name;

/// Issuers of tokens. A request without a token passes; one with a token that none of them vouches for does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Authentication {
    /// At least one.
    pub issuers: Vec<JwtIssuer>,
}

/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct JwtIssuer {
    /// Its name among the others, `origins-0`.
    pub name: String,
    /// The claim `iss`; empty: any.
    pub issuer: String,
    /// One of these must be in the claim `aud`; empty: any.
    pub audiences: Vec<String>,
    /// Its public keys.
    pub keys: JwtKeys,
    /// Headers that have tokens, in lower case, and what stands before these. With neither headers nor parameters nor
    /// cookies: `authorization: Bearer …` and the parameter `access_token`.
    pub from_headers: Vec<(String, String)>,
    /// Query parameters that have tokens.
    pub from_params: Vec<String>,
    /// Cookies that have tokens.
    pub from_cookies: Vec<String>,
    /// The upstream finds the payload here, in base64url without padding.
    pub payload_header: Option<String>,
    /// The upstream gets the token too.
    pub forward: bool,
    /// Headers in which the upstream finds claims: header, claim.
    pub claim_headers: Vec<(String, String)>,
    /// Claims whose text is a list with spaces.
    pub space_delimited_claims: Vec<String>,
}

/// Public keys (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum JwtKeys {
    /// These.
    Inline(String),
    /// Those that are fetched.
    Remote {
        /// From here.
        uri: String,
        /// By this cluster.
        cluster: Name,
        /// In this time.
        timeout: Duration,
    },
}

impl Authentication {
    /// Clusters that keys are fetched from.
    pub fn clusters(&self) -> impl Iterator<Item = &Name> {
        self.issuers.iter().filter_map(|issuer| match &issuer.keys {
            JwtKeys::Remote { cluster, .. } => Some(cluster),
            JwtKeys::Inline(_) => None,
        })
    }
}
