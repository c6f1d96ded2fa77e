//! The outside of a cluster on the loopback address: a server that answers as it is told, by HTTP or HTTPS, and a proxy that
//! connects to it (CONNECT).

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use pullcred::pki::make_development;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::server::acceptor;

/// A server on a port of its own for one request on each connection, until it is dropped.
pub struct Site {
    pub port: u16,
    /// The authority of its certificate, in PEM, when it speaks HTTPS.
    pub authority: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Site {
    /// Answers what `answer` makes of a request: a whole answer, or nothing to keep silent.
    pub async fn start(is_tls: bool, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let (authority, acceptor) = certified();
        let acceptor = is_tls.then_some(acceptor);
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        let (port, task) = listen(move |stream| {
            let (acceptor, seen, answer) = (acceptor.clone(), seen.clone(), answer.clone());
            async move {
                match acceptor {
                    // A client that does not trust the certificate goes away.
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, &seen, &*answer).await;
                        }
                    }
                    None => serve(stream, &seen, &*answer).await,
                }
            }
        })
        .await;
        Self { port, authority, requests, task }
    }

    /// Every request so far, head and body.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An authority in PEM, and TLS with a certificate that it has signed.
fn certified() -> (String, TlsAcceptor) {
    let made = make_development(Timestamp::now()).unwrap();
    let acceptor = acceptor(made.tls_crt.as_bytes(), made.tls_key.as_bytes());
    (made.ca_crt, acceptor)
}

/// An answer of this status with a JSON body.
pub fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A proxy that lets through who knows the word, if there is one, until it is dropped.
pub struct Proxy {
    pub port: u16,
    /// The authority of its certificate, in PEM, when it speaks HTTPS.
    pub authority: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one; `authorization` is what it wants to see in `Proxy-Authorization`.
    pub async fn start(is_tls: bool, authorization: Option<&'static str>) -> Self {
        let (authority, acceptor) = certified();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = requests.clone();
        let (port, task) = listen(move |stream: TcpStream| {
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            async move {
                if is_tls {
                    let stream = acceptor.accept(stream).await.unwrap();
                    pass_through(stream, &seen, authorization).await;
                } else {
                    pass_through(stream, &seen, authorization).await;
                }
            }
        })
        .await;
        Self { port, authority, requests, task }
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_through(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Vec<String>>,
    authorization: Option<&str>,
) {
    let head = read_request(&mut stream).await;
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    let wanted = authorization.map(|word| format!("proxy-authorization: {}", word.to_lowercase()));
    let is_known = wanted.is_none_or(|wanted| head.to_lowercase().contains(&wanted));
    seen.lock().unwrap().push(head);
    if !is_known {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        return stream.write_all(refusal.as_bytes()).await.unwrap();
    }
    let mut site = TcpStream::connect(target).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    // Ends with an error when one side goes away, which is as good an end as any.
    let _ended = tokio::io::copy_bidirectional(&mut stream, &mut site).await;
}

async fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (u16, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(serve(stream));
        }
    });
    (port, task)
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Vec<String>>,
    answer: &(dyn Fn(&str) -> String + Send + Sync),
) {
    let request = read_request(&mut stream).await;
    seen.lock().unwrap().push(request.clone());
    let answer = answer(&request);
    if answer.is_empty() {
        return std::future::pending().await;
    }
    // A client may have seen enough before the end.
    let _written = stream.write_all(answer.as_bytes()).await;
    let _closed = stream.shutdown().await;
}

/// A request with the body that its `Content-Length` announces.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text.into_owned();
            }
        }
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return String::from_utf8_lossy(&request).into_owned();
        }
    }
}
