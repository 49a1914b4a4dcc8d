//! A page server for machines that look at a daemon: one request a connection, GET and HEAD, no bodies.
//!
//! It cannot hurt the daemon: connections, the size of a request and the time from accept to close are bounded, and
//! whoever connects and says nothing makes room for who comes later. Pages are made one at a time on a thread of their own, where they may wait for a disk. It owns no page; [`serve`] is given a
//! function from path to page. It is meant for loopback: no TLS, no names, no users.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use crate::{Failure, Sockets, metrics::Families};

/// Connections that are served at once; one more takes the place of the oldest, of one that has not asked if there is any.
const CONNECTIONS_MAX: usize = 16;
/// Longest head of a request.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// From accept to close.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How long a peer may go on talking after its answer.
const PARTING_TIME: Duration = Duration::from_secs(1);
/// After the system had no descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What is under a path.
#[derive(Clone, Debug)]
pub struct Page {
    /// `200 OK`, mostly.
    pub status: &'static str,
    /// `Content-Type`
    pub content_type: &'static str,
    /// The content, in parts: a large page is nowhere in one piece.
    pub body: Vec<Vec<u8>>,
}

/// Finds the page of a path; `None`: there is none. May block.
pub type Pages = dyn Fn(&str) -> Option<Page> + Send + Sync;

/// Connections that wait while the process is started again.
const BACKLOG: i32 = 128;

/// Listens on a port of the loopback address.
pub fn listen(sockets: &mut Sockets, port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    sockets.listen("metrics", address, BACKLOG, |address, _| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })
}

/// Takes the port that is configured, or the usual one. `None`: there will be no pages, by configuration (0), or because
/// nobody asked for them and the usual port is taken. A port that was asked for must be free.
pub fn bind(
    sockets: &mut Sockets,
    configured: Option<u16>,
    usual: u16,
) -> Result<Option<TcpListener>, Failure> {
    let port = match configured {
        Some(0) => return Ok(None),
        Some(port) => port,
        None => usual,
    };
    match listen(sockets, port) {
        Ok(listener) => {
            tracing::info!("metrics: http://127.0.0.1:{port}/metrics");
            Ok(Some(listener))
        }
        // Whoever has it may go: not the configuration must change, another try helps.
        Err(error) if configured.is_some() => {
            let reason = format!("cannot listen on 127.0.0.1 port {port}: {error} (metricsPort)");
            Err(Failure::caused(reason, &error))
        }
        Err(error) => {
            tracing::warn!(port, %error, "no metrics: the port is taken; set metricsPort, 0 for none");
            Ok(None)
        }
    }
}

/// Connections that were closed before their answer was out.
#[derive(Clone, Debug, Default)]
pub struct HungUp(Arc<AtomicU64>);

impl HungUp {
    /// Adds their number to a scrape.
    pub fn collect(&self, out: &mut Families) {
        out.counter(
            "gantry_metrics_connections_dropped_total",
            "Connections for pages like this that were closed before their answer was out: too slow, or in the way of later ones.",
            &[],
            self.0.load(Ordering::Relaxed),
        );
    }

    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves until it is dropped. Must run on a tokio runtime.
pub async fn serve(listener: TcpListener, pages: Arc<Pages>, hung_up: HungUp) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let maker = start_maker(pages)?;
    let (mut tasks, mut open) = (JoinSet::new(), Open::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a metrics connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if open.make_room() {
            hung_up.count();
        }
        let has_asked = Arc::new(AtomicBool::new(false));
        let (maker, hung_up, asked) = (maker.clone(), hung_up.clone(), has_asked.clone());
        let task = tasks.spawn(async move {
            // Who is too slow, or goes away, gets nothing: it will ask again.
            match timeout(CONNECTION_TIME, connection(stream, maker, &asked)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a metrics connection ended"),
                Err(_) => hung_up.count(),
            }
        });
        open.0.push_back((has_asked, task));
    }
}

/// The connections that are served, the oldest first, and whether they have asked for something.
#[derive(Default)]
struct Open(VecDeque<(Arc<AtomicBool>, AbortHandle)>);

impl Open {
    /// Makes room for one more. Returns whether another had to go for it.
    fn make_room(&mut self) -> bool {
        self.0.retain(|(_, task)| !task.is_finished());
        if self.0.len() < CONNECTIONS_MAX {
            return false;
        }
        let silent = |(has_asked, _): &(Arc<AtomicBool>, _)| !has_asked.load(Ordering::Relaxed);
        let goes = self.0.iter().position(silent).unwrap_or(0);
        if let Some((_, task)) = self.0.remove(goes) {
            task.abort();
        }
        true
    }
}

/// Somebody asks for a page, and waits for it here.
struct Asked {
    path: String,
    answer: oneshot::Sender<Option<Page>>,
}

/// Starts the thread that makes pages, until nobody can ask any more.
///
/// It is always the same one: the allocator keeps an arena for each thread, and what is left in it of a large page would
/// be there once for each thread that had made one.
fn start_maker(pages: Arc<Pages>) -> io::Result<mpsc::Sender<Asked>> {
    let (maker, asked) = mpsc::channel::<Asked>();
    let work = move || {
        for Asked { path, answer } in asked {
            // Who has gone away needs none.
            if !answer.is_closed() {
                let _ = answer.send(pages(&path));
            }
        }
    };
    std::thread::Builder::new()
        .name("pages".into())
        .spawn(work)?;
    Ok(maker)
}

async fn connection(
    mut stream: TcpStream,
    maker: mpsc::Sender<Asked>,
    has_asked: &AtomicBool,
) -> io::Result<()> {
    let request = read_request(&mut stream).await?;
    has_asked.store(true, Ordering::Relaxed);
    let (head, body) = match request {
        Ok(Request { path, head_only }) => {
            let (to, made) = oneshot::channel();
            // Without the thread no answer comes either.
            let _ = maker.send(Asked { path, answer: to });
            match made.await {
                Ok(Some(page)) => answer(page.status, page.content_type, page.body, head_only),
                Ok(None) => refuse("404 Not Found", head_only),
                Err(_) => refuse("500 Internal Server Error", head_only),
            }
        }
        Err(status) => refuse(status, false),
    };
    stream.write_all(&head).await?;
    for part in body {
        stream.write_all(&part).await?;
    }
    stream.shutdown().await?;
    // Closing with something unread would reset the connection, and take the answer with it.
    let mut rest = [0; 1024];
    let _ = timeout(PARTING_TIME, async {
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    })
    .await;
    Ok(())
}

struct Request {
    path: String,
    head_only: bool,
}

/// Reads the head of a request, or says with which status to refuse it.
async fn read_request(stream: &mut TcpStream) -> io::Result<Result<Request, &'static str>> {
    let mut head = Vec::new();
    loop {
        if let Some(request) = parse(&head) {
            return Ok(request);
        }
        if REQUEST_BYTES_MAX <= head.len() {
            return Ok(Err("431 Request Header Fields Too Large"));
        }
        let mut part = [0; 1024];
        let room = part.len().min(REQUEST_BYTES_MAX - head.len());
        let read = stream.read(&mut part[..room]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&part[..read]);
    }
}

/// `None`: more is needed.
fn parse(head: &[u8]) -> Option<Result<Request, &'static str>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(status) if status.is_partial() => return None,
        Ok(_) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Some(Err("431 Request Header Fields Too Large"));
        }
        Err(_) => return Some(Err("400 Bad Request")),
    }
    let (method, target) = (request.method?, request.path?);
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Some(Err("405 Method Not Allowed")),
    };
    let target = origin_form(target);
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    Some(Ok(Request {
        path: path.to_owned(),
        head_only,
    }))
}

/// What follows the host in a target that names one (RFC 9112, 3.2.2).
fn origin_form(target: &str) -> &str {
    let Some((scheme, rest)) = target.split_once("://") else {
        return target;
    };
    if !scheme.eq_ignore_ascii_case("http") {
        return target;
    }
    match rest.find(['/', '?']) {
        Some(end) if rest[end..].starts_with('/') => &rest[end..],
        _ => "/",
    }
}

fn refuse(status: &str, head_only: bool) -> (Vec<u8>, Vec<Vec<u8>>) {
    let body = vec![format!("{status}\n").into_bytes()];
    answer(status, "text/plain; charset=utf-8", body, head_only)
}

/// Head and body of an answer; pages are large, so they are not copied.
fn answer(
    status: &str,
    content_type: &str,
    body: Vec<Vec<u8>>,
    head_only: bool,
) -> (Vec<u8>, Vec<Vec<u8>>) {
    let allow = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        body.iter().map(Vec::len).sum::<usize>()
    );
    (head.into_bytes(), if head_only { Vec::new() } else { body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::FAILED;

    /// Sends the bytes to a server with one page and returns all that comes back.
    fn ask(bytes: &[u8]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = listen(&mut Sockets::none(), 0).unwrap();
            let address = listener.local_addr().unwrap();
            let pages: Arc<Pages> = Arc::new(|path| {
                (path == "/metrics").then(|| Page {
                    status: "200 OK",
                    content_type: "text/plain",
                    body: vec![b"a ".to_vec(), b"1\n".to_vec()],
                })
            });
            let server = tokio::spawn(serve(listener, pages, HungUp::default()));
            let mut stream = TcpStream::connect(address).await.unwrap();
            // In pieces: a head need not come at once. The server may have answered before the last of them.
            for piece in bytes.chunks(700) {
                if stream.write_all(piece).await.is_err() {
                    break;
                }
            }
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.unwrap();
            server.abort();
            String::from_utf8(said).unwrap()
        })
    }

    #[test]
    fn a_port_that_was_asked_for_must_be_free_and_0_is_none() {
        let mut sockets = Sockets::none();
        let taken = listen(&mut sockets, 0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let failure = bind(&mut sockets, Some(port), 0).unwrap_err();
        let in_use = Some(nix::libc::EADDRINUSE);
        assert_eq!((failure.code(), failure.errno()), (FAILED, in_use));
        let text = format!("cannot listen on 127.0.0.1 port {port}: ");
        assert!(failure.to_string().starts_with(&text), "{failure}");
        assert!(failure.to_string().ends_with("(metricsPort)"), "{failure}");
        assert!(bind(&mut sockets, Some(0), port).unwrap().is_none());
        let nobody_asked = bind(&mut sockets, None, port).unwrap();
        assert!(nobody_asked.is_none());
    }

    /// Connections that say nothing, or do not listen, hold up nobody: the oldest of them makes room. One that has asked is
    /// spared as long as one is there that has not.
    #[test]
    fn silent_connections_make_room_for_who_asks() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = listen(&mut Sockets::none(), 0).unwrap();
            let address = listener.local_addr().unwrap();
            let (held, release) = std::sync::mpsc::channel::<()>();
            let release = std::sync::Mutex::new(release);
            let pages: Arc<Pages> = Arc::new(move |path| {
                if path == "/slow" {
                    let _ = release.lock().unwrap().recv();
                }
                None
            });
            let hung_up = HungUp::default();
            let server = tokio::spawn(serve(listener, pages, hung_up.clone()));
            let connect = async || TcpStream::connect(address).await.unwrap();
            let ask = async |path: &str| {
                let mut stream = connect().await;
                let request = format!("GET {path} HTTP/1.1\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                stream
            };
            let answer = async |mut stream: TcpStream| {
                let mut said = Vec::new();
                stream.read_to_end(&mut said).await.unwrap();
                String::from_utf8(said).unwrap()
            };
            let early = ask("/slow").await;
            let mut silent = Vec::new();
            for _ in 0..2 * CONNECTIONS_MAX {
                let mut stream = connect().await;
                stream.write_all(b"GET / HT").await.unwrap();
                silent.push(stream);
            }
            let late = ask("/").await;
            drop(held);
            for stream in [late, early] {
                assert!(answer(stream).await.starts_with("HTTP/1.1 404"));
            }
            // Those that went are hung up on, the others still have their places.
            let went = CONNECTIONS_MAX + 2;
            assert_eq!(hung_up.0.load(Ordering::Relaxed), went as u64);
            for mut stream in silent.drain(..went) {
                let mut said = [0];
                assert!(matches!(stream.read(&mut said).await, Ok(0) | Err(_)));
            }
            let mut stays = silent.pop().unwrap();
            stays.write_all(b"TP/1.1\r\n\r\n").await.unwrap();
            assert!(answer(stays).await.starts_with("HTTP/1.1 404"));
            server.abort();
        });
    }

    #[test]
    fn a_page_its_head_and_what_is_refused() {
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9_000));
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65));
        let cases = [
            (
                "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
                "200 OK",
                "a 1\n",
            ),
            ("GET /metrics?x=y HTTP/1.0\r\n\r\n", "200 OK", "a 1\n"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK", ""),
            (
                "GET http://a:1/metrics?x=y HTTP/1.1\r\nHost: b\r\n\r\n",
                "200 OK",
                "a 1\n",
            ),
            (
                "GET http://metrics HTTP/1.1\r\n\r\n",
                "404 Not Found",
                "404 Not Found\n",
            ),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found", "404 Not Found\n"),
            (
                "POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
                "405 Method",
                "405 Method Not Allowed\n",
            ),
            (
                "\u{16}\u{3}\u{1} hello\r\n\r\n",
                "400 Bad Request",
                "400 Bad Request\n",
            ),
            (
                &long,
                "431 Request",
                "431 Request Header Fields Too Large\n",
            ),
            (
                &many,
                "431 Request",
                "431 Request Header Fields Too Large\n",
            ),
        ];
        for (request, status, body) in cases {
            let said = ask(request.as_bytes());
            let (head, content) = said.split_once("\r\n\r\n").unwrap();
            let what = &request[..request.len().min(40)];
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status}")),
                "{what}: {head}"
            );
            assert_eq!(content, body, "{what}");
            assert!(head.contains("Connection: close"), "{what}: {head}");
            assert_eq!(
                head.contains("Allow:"),
                status.starts_with("405"),
                "{what}: {head}"
            );
        }
    }
}
