//! How the control plane is reached: in plaintext, or over TLS with what we can show of ourselves.
//!
//! In: its address, files, our own certificate. Out: connections. A certificate is preferred, because it can be checked while
//! the API server is away; a token is shown before there is one, after it has expired, and in turn with one that was not
//! taken. Roots are read at each connection, so that new ones count at once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use config::{OWN_CERTIFICATE, OWN_ROOTS, SecretContent, Source};
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::metadata::{Ascii, MetadataValue};
use transport::io::Io;
use transport::tls::{self, Demands, Identity, Naming, Parameters, Trust};
use xds::grpc::{Dial, Opened};

use crate::own::{self, OwnSecrets};

/// A connection and its handshake may take so long.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Largest token, in bytes.
const TOKEN_BYTES_MAX: u64 = 16 << 10;

/// The control plane, and what it is shown.
pub struct Plane {
    /// `https://host:port`.
    address: String,
    host: String,
    port: u16,
    /// A file with the token of our service account.
    pub token: Option<PathBuf>,
    /// A file with the roots that the control plane must lead to.
    pub roots: Option<PathBuf>,
    /// A directory with a certificate to begin with.
    pub bootstrap: Option<PathBuf>,
    /// What we are, once we know.
    own: watch::Receiver<OwnSecrets>,
    last: Mutex<Option<Last>>,
}

/// How the last connection was made, and what became of it.
struct Last {
    with_certificate: bool,
    taken: Arc<AtomicBool>,
}

/// What is shown.
enum Shown {
    Certificate(Identity),
    Token(MetadataValue<Ascii>),
    Nothing,
}

impl Plane {
    /// The control plane at an address; `None` when it is plaintext.
    ///
    /// # Errors
    /// It is no address.
    pub fn new(address: &str, own: watch::Receiver<OwnSecrets>) -> Result<Option<Self>, String> {
        let bad = || format!("--control-plane {address:?}: expected http://host:port or https://host:port");
        let uri: http::Uri = address.parse().map_err(|_| bad())?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return Err(bad()) };
        match scheme {
            "http" => Ok(None),
            "https" => Ok(Some(Self {
                host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
                port: uri.port_u16().unwrap_or(15012),
                // As tonic must see it: TLS is ours.
                address: address.to_owned(),
                token: None,
                roots: None,
                bootstrap: None,
                own,
                last: Mutex::default(),
            })),
            _ => Err(bad()),
        }
    }

    /// The same for another user, who finds out on its own what is taken.
    pub fn again(&self) -> Arc<Self> {
        Arc::new(Self {
            address: self.address.clone(),
            host: self.host.clone(),
            port: self.port,
            token: self.token.clone(),
            roots: self.roots.clone(),
            bootstrap: self.bootstrap.clone(),
            own: self.own.clone(),
            last: Mutex::default(),
        })
    }

    /// For the xDS client.
    pub fn dial(self: Arc<Self>) -> Dial {
        Box::new(move || {
            let plane = self.clone();
            Box::pin(async move { plane.open().await })
        })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// A sentence that names the reason.
    pub async fn open(&self) -> Result<Opened, String> {
        let (shown, taken) = self.choose()?;
        let (identity, authorization) = match shown {
            Shown::Certificate(identity) => (Some(identity), None),
            Shown::Token(token) => (None, Some(token)),
            Shown::Nothing => (None, None),
        };
        let demands = Demands { trust: Some(self.trust()?), ..Demands::default() };
        let naming = Naming { sends_sni: true, verifies: true };
        let parameters = Parameters { tls12: true, tls13: true, alpn: vec!["h2".into()], ..Parameters::default() };
        let config = tls::client(identity, Some(demands), naming, &parameters)?;
        let (host, port) = (self.host.clone(), self.port);
        let connector = tower::service_fn(move |_: http::Uri| -> BoxFuture<'static, std::io::Result<TokioIo<Io>>> {
            let (host, config) = (host.clone(), config.clone());
            Box::pin(async move {
                let connected = tokio::time::timeout(CONNECT_MAX, async {
                    let stream = TcpStream::connect((host.as_str(), port)).await?;
                    stream.set_nodelay(true)?;
                    tls::connect(Io::Tcp(stream), &host, &config).await
                });
                connected.await.map_err(|_| std::io::Error::other("it does not answer"))?.map(TokioIo::new)
            })
        });
        let channel = xds::grpc::over(&self.address, connector).await.inspect_err(|_| self.forget())?;
        Ok(Opened { channel, authorization, taken })
    }

    // Nobody has looked at what was shown.
    fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    // With where it is to be said that it was taken.
    fn choose(&self) -> Result<(Shown, Arc<AtomicBool>), String> {
        let certificate = self.certificate();
        let token = self.token.as_ref().map(|path| read(path, TOKEN_BYTES_MAX)).transpose();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let was_not_taken =
            last.as_ref().is_some_and(|last| last.with_certificate && !last.taken.load(Ordering::Relaxed));
        let prefers_token = was_not_taken && matches!(token, Ok(Some(_)));
        let shown = match (certificate.filter(|_| !prefers_token), token) {
            (Some(identity), _) => Shown::Certificate(identity),
            (None, Ok(Some(text))) => {
                let text = String::from_utf8_lossy(&text).trim().to_owned();
                let value = MetadataValue::try_from(format!("Bearer {text}"));
                let mut value = value.map_err(|_| "the token has letters that no token has".to_owned())?;
                value.set_sensitive(true);
                Shown::Token(value)
            }
            (None, Ok(None)) => Shown::Nothing,
            (None, Err(reason)) => return Err(reason),
        };
        let taken = Arc::new(AtomicBool::new(false));
        *last = Some(Last { with_certificate: matches!(shown, Shown::Certificate(_)), taken: taken.clone() });
        Ok((shown, taken))
    }

    // Our own if it is still valid, else the one to begin with.
    fn certificate(&self) -> Option<Identity> {
        let own = self.own.borrow().clone();
        let current = own.get(OWN_CERTIFICATE).and_then(|secret| match &secret.content {
            SecretContent::Certificate { chain: Source::Inline(chain), key: Source::Inline(key) } => {
                let valid = is_valid(chain);
                valid.then(|| Identity::parse(chain, key).ok()).flatten()
            }
            _ => None,
        });
        current.or_else(|| {
            let [chain, key] = own::pair(self.bootstrap.as_ref()?)?;
            is_valid(&chain).then(|| Identity::parse(&chain, &key).ok()).flatten()
        })
    }

    // The file's roots; without one those of our own, else the machine's.
    fn trust(&self) -> Result<Arc<Trust>, String> {
        if let Some(path) = &self.roots {
            let text = read(path, tls::PEM_BYTES_MAX as u64)?;
            return Trust::parse(&text, None).map(Arc::new).map_err(|reason| format!("{}: {reason}", path.display()));
        }
        let own = self.own.borrow().clone();
        match own.get(OWN_ROOTS).map(|secret| &secret.content) {
            Some(SecretContent::Roots { roots: Source::Inline(roots), .. }) => Trust::parse(roots, None).map(Arc::new),
            _ => Ok(Trust::system()),
        }
    }
}

fn is_valid(chain: &[u8]) -> bool {
    let read = identity::Certificate::read_all(chain);
    read.is_ok_and(|all| all.first().is_some_and(|leaf| leaf.is_valid_at(SystemTime::now())))
}

/// A file of bounded size.
pub(crate) fn read(path: &std::path::Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut content = Vec::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut content));
    match file {
        Ok(_) if content.len() as u64 > bytes_max => Err(format!("{}: more than {bytes_max} bytes", path.display())),
        Ok(_) => Ok(content),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(address: &str) -> Result<Option<Plane>, String> {
        Plane::new(address, watch::channel(OwnSecrets::default()).1)
    }

    #[test]
    fn an_address_says_whether_it_is_secured() {
        assert!(plane("http://sluiced:15010").unwrap().is_none());
        let found = plane("https://istiod.istio-system.svc:15012").unwrap().unwrap();
        assert_eq!((found.host.as_str(), found.port), ("istiod.istio-system.svc", 15012));
        assert_eq!(plane("https://[::1]").unwrap().unwrap().host, "::1");
        for bad in ["sluiced:15010", "ftp://a:1", ""] {
            assert!(plane(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_read_each_time_and_missed_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("istio-token");
        let plane = Plane { token: Some(path.clone()), ..plane("https://a:1").unwrap().unwrap() };
        assert!(plane.choose().is_err_and(|reason| reason.contains("istio-token")));
        for token in ["first", "second\n"] {
            std::fs::write(&path, token).unwrap();
            let Ok((Shown::Token(shown), _)) = plane.choose() else { panic!("a token") };
            assert_eq!(shown.to_str().unwrap(), format!("Bearer {}", token.trim()));
        }
        std::fs::write(&path, "a\nb").unwrap();
        assert!(plane.choose().is_err());
    }

    #[test]
    fn a_certificate_that_was_not_taken_is_shown_in_turn_with_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = identity::Authority::create("cluster.local", SystemTime::now()).unwrap();
        std::fs::write(folder.path().join("cert-chain.pem"), certificate).unwrap();
        std::fs::write(folder.path().join("key.pem"), key).unwrap();
        let path = folder.path().join("istio-token");
        std::fs::write(&path, "token").unwrap();
        let bootstrap = Some(folder.path().to_owned());
        let plane = Plane { token: Some(path), bootstrap, ..plane("https://a:1").unwrap().unwrap() };
        // However long it is between two tries.
        let next = || {
            let (shown, taken) = plane.choose().unwrap();
            (matches!(shown, Shown::Certificate(_)), taken)
        };
        let tries: Vec<bool> = (0..4).map(|_| next().0).collect();
        assert_eq!(tries, [true, false, true, false]);
        let (is_certificate, taken) = next();
        assert!(is_certificate);
        taken.store(true, Ordering::Relaxed);
        assert!(next().0, "what was taken is shown again");
        // Nobody was there to look at it.
        plane.forget();
        assert!(next().0);
    }
}
