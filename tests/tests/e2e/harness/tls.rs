//! Certificates for gateways under test, and a client that speaks TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const TIMEOUT: Duration = Duration::from_secs(20);

/// An authority of a case's own, and a directory for what it issues.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is a fine list of names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than what it issues: else that would look as if it had signed itself.
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority of the tests");
        let key = KeyPair::generate().expect("the system gives random numbers");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the parameters are sound");
        let directory = tempfile::tempdir().expect("there is a directory for such things");
        fs::write(directory.path().join("ca.crt"), issuer.pem()).expect("it is ours");
        Self { issuer, directory }
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A certificate for these names, in place of the one before under this `name`: `<name>.crt`, `<name>.key`.
    pub fn issue(&self, name: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("the system gives random numbers");
        let certificate = CertificateParams::new(names).expect("names of hosts");
        let certificate = certificate
            .signed_by(&key, &self.issuer)
            .expect("the parameters are sound");
        let file = |ending: &str| self.directory.path().join(format!("{name}.{ending}"));
        let (cert, key_file) = (file("crt"), file("key"));
        fs::write(&key_file, key.serialize_pem()).expect("it is ours");
        fs::write(&cert, certificate.pem()).expect("it is ours");
        (cert, key_file)
    }

    /// `cert` and `key` of a table of TLS.
    pub fn settings(&self, name: &str, names: &[&str]) -> String {
        let (cert, key) = self.issue(name, names);
        format!("cert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display())
    }

    /// A client that trusts it; `alpn`: what it offers; `own`: the files of its own certificate.
    pub fn client(&self, alpn: &[&str], own: Option<(&Path, &Path)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = vec![CertificateDer::from_pem_file(cert).expect("it was issued")];
                let key = PrivateKeyDer::from_pem_file(key).expect("it was issued");
                builder.with_client_auth_cert(chain, key).expect("they fit")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A client that trusts the certificates in this text, and nobody else.
pub fn trusting(pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(root.expect("it is PEM")).expect("it is a certificate");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Shakes hands, and names a host.
pub async fn connect(
    config: &Arc<ClientConfig>,
    address: &str,
    host: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).expect("a name of a host");
    let socket = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::clone(config));
    let shaken = tokio::time::timeout(TIMEOUT, connector.connect(name, socket)).await;
    shaken.expect("a handshake in time")
}

/// Sends bytes and reads until the other end closes, or a whole answer without a body, or of a known length, has come.
pub async fn ask<S>(stream: &mut S, request: &str) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let talk = async {
        let _ = stream.write_all(request.as_bytes()).await;
        let (mut received, mut buffer) = (Vec::new(), [0; 4_096]);
        while !is_whole(&received) {
            match stream.read(&mut buffer).await {
                Ok(read @ 1..) => received.extend_from_slice(&buffer[..read]),
                Ok(0) | Err(_) => break,
            }
        }
        String::from_utf8_lossy(&received).into_owned()
    };
    tokio::time::timeout(TIMEOUT, talk)
        .await
        .expect("an answer in time")
}

fn is_whole(received: &[u8]) -> bool {
    let text = String::from_utf8_lossy(received);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0)
}
