//! Identities of workloads: a certificate authority, requests for certificates, roots, and when to renew what.
//!
//! In: PEM text, who somebody was shown to be, the time. Out: certificates and reasons why there is none. It opens no file and
//! no socket and reads no clock: the time is an argument, and so is the draw of a jitter. Only keys and serial numbers are
//! made of the system's randomness, because they must not be repeatable.

mod authority;
mod bundle;
mod certificate;
mod enrol;
mod key;
mod pair;
mod request;
pub mod rotation;
mod text;
pub mod token;
pub mod wire;

pub use authority::{Authority, AuthorityError, BACKDATED, Files, Issued, LEAF_LIFE, ROOT_LIFE, Served};
pub use bundle::{BUNDLE_BYTES_MAX, Bundle, BundleError, ROOTS_MAX};
pub use certificate::{Certificate, CertificateError};
pub use enrol::Enrolment;
pub use key::KeyError;
pub use pair::{PairError, check_pair};
pub use request::{REQUEST_BYTES_MAX, Refusal, Request};
