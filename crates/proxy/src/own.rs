//! The secrets that a proxy has of its own: what its workload is, and whom it trusts. They come from a directory or from an
//! agent, never over xDS.
//!
//! In: files, looked at again and again. Out: a value that is watched; it changes as a whole, and only to what can be used.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::{Name, OWN_CERTIFICATE, OWN_ROOTS, Secret, SecretContent, Source};
use tokio::sync::watch;
use transport::tls::{Identity, PEM_BYTES_MAX, Trust};

/// Secrets by their names, [`OWN_CERTIFICATE`] and [`OWN_ROOTS`]. Empty until there are any.
pub type OwnSecrets = Arc<BTreeMap<Name, Arc<Secret>>>;

/// How often the files of a directory are looked at.
const FILES_EVERY: Duration = Duration::from_secs(1);
/// The files of a directory, by Istio's names.
const CHAIN: &str = "cert-chain.pem";
const KEY: &str = "key.pem";
const ROOTS: &str = "root-cert.pem";

/// Both secrets, of PEM text that was looked through.
///
/// # Errors
/// What is wrong with them, without anything of the key.
pub fn secrets(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<OwnSecrets, String> {
    Identity::parse(chain, key)?;
    Trust::parse(roots, None)?;
    let inline = |bytes: &[u8]| Source::Inline(bytes.into());
    let secret = |name: &str, content| (Name::from(name), Arc::new(Secret { name: name.into(), content }));
    let certificate = SecretContent::Certificate { chain: inline(chain), key: inline(key) };
    let trusted = SecretContent::Roots { roots: inline(roots), crl: None };
    Ok(Arc::new(BTreeMap::from([secret(OWN_CERTIFICATE, certificate), secret(OWN_ROOTS, trusted)])))
}

/// Follows `cert-chain.pem`, `key.pem` and `root-cert.pem` of a directory; read at once, then whenever they change. What
/// cannot be used, because files are missing or do not fit together, is said and passed over: what was good stays.
pub fn follow_directory(directory: PathBuf) -> watch::Receiver<OwnSecrets> {
    let mut known = None;
    let first = look(&directory, &mut known).unwrap_or_default();
    let (sender, receiver) = watch::channel(first);
    tokio::task::spawn_local(async move {
        let mut every = tokio::time::interval(FILES_EVERY);
        while !sender.is_closed() {
            every.tick().await;
            if let Some(newer) = look(&directory, &mut known) {
                tracing::info!(directory = %directory.display(), "the certificate or the roots are new");
                sender.send_replace(newer);
            }
        }
    });
    receiver
}

/// The certificate chain and the key of a directory, unread; `None` unless both are there.
pub fn pair(directory: &Path) -> Option<[Vec<u8>; 2]> {
    Some([read(&directory.join(CHAIN)).ok()?, read(&directory.join(KEY)).ok()?])
}

type Content = [Result<Vec<u8>, String>; 3];

// `None`: nothing new, or nothing good. Small files: reading them is as cheap as asking whether they have changed.
fn look(directory: &Path, known: &mut Option<Content>) -> Option<OwnSecrets> {
    let now = [CHAIN, KEY, ROOTS].map(|name| read(&directory.join(name)));
    if known.as_ref() == Some(&now) {
        return None;
    }
    let made = match &now {
        [Ok(chain), Ok(key), Ok(roots)] => secrets(chain, key, roots),
        all => Err(all.iter().filter_map(|one| one.as_ref().err()).cloned().collect::<Vec<_>>().join(", ")),
    };
    *known = Some(now);
    made.map_err(|reason| tracing::error!(directory = %directory.display(), "cannot be used: {reason}")).ok()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(PEM_BYTES_MAX as u64 + 1).read_to_end(&mut content));
    read.map(|_| content).map_err(|error| format!("{}: {error}", path.display()))
}
