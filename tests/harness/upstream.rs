//! The service behind the gateway: a small real HTTP/1.1 and HTTP/2 server that counts what reaches it.
//!
//! The last word of the path says what to answer; what stands before it only chooses Envoy's route.
//!
//! | last words | answer |
//! |---|---|
//! | anything | 200, the request's method, path and headers as JSON |
//! | `status/503` | that status |
//! | `redirect?to=/coin/x` | 302 to that path of the same host |
//! | `slow?ms=300` | 200 after a while |
//! | `hold?name=x` | nothing until [`Upstream::finish`] is called with the name, then as anything |
//! | `stream?name=x` | 200 and a chunk every 20 ms until [`Upstream::finish`] is called with the name |
//! | `grpc` | a gRPC-like reply: one empty message, `grpc-status: 0` in trailers |

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::StackError;
use crate::child::lock;

/// How often a stream sends a chunk.
const CHUNK_INTERVAL: Duration = Duration::from_millis(20);

/// A running upstream.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    seen: Arc<Seen>,
    server: JoinHandle<()>,
}

/// What the upstream remembers.
#[derive(Debug, Default)]
struct Seen {
    served: Mutex<BTreeMap<String, u64>>,
    finished: watch::Sender<BTreeSet<String>>,
    arrivals: Mutex<Vec<Arrival>>,
}

/// A call that named itself and arrived.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// What stands in its header `x-call-id`.
    pub call: u64,
    /// When.
    pub at: Instant,
}

// === impl Upstream ===

impl Upstream {
    /// Starts the server on a free port.
    pub async fn start() -> Result<Self, StackError> {
        let refused = || StackError::system("bind the upstream");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(refused())?;
        let addr = listener.local_addr().map_err(refused())?;
        let seen = Arc::new(Seen::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let server = tokio::spawn(async move {
            // Serving ends only with its task.
            axum::serve(listener, router).await.ok();
        });
        Ok(Self { addr, seen, server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many calls of this user arrived; the user is what stands in `x-user-id`.
    pub fn served(&self, user: &str) -> u64 {
        lock(&self.seen.served).get(user).copied().unwrap_or(0)
    }

    /// Every call with a number in `x-call-id`, in order of arrival.
    pub fn arrivals(&self) -> Vec<Arrival> {
        lock(&self.seen.arrivals).clone()
    }

    /// Lets the streams of this name end, and answers the calls that are held under it.
    pub fn finish(&self, stream: &str) {
        self.seen.finished.send_modify(|finished| {
            finished.insert(stream.to_owned());
        });
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

// === answers ===

async fn answer(State(seen): State<Arc<Seen>>, request: Request) -> Response {
    let user = header_text(request.headers(), "x-user-id");
    *lock(&seen.served).entry(user).or_default() += 1;
    if let Ok(call) = header_text(request.headers(), "x-call-id").parse() {
        lock(&seen.arrivals).push(Arrival { call, at: Instant::now() });
    }

    let words: Vec<&str> = request.uri().path().split('/').collect();
    match words.as_slice() {
        [.., "status", code] => {
            let code = code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
            code.unwrap_or(StatusCode::BAD_REQUEST).into_response()
        }
        [.., "redirect"] => {
            let host = header_text(request.headers(), "host");
            let to = format!("http://{host}{}", parameter(&request, "to"));
            (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
        }
        [.., "slow"] => {
            let wait = parameter(&request, "ms").parse().unwrap_or(100);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            echo(&request)
        }
        [.., "hold"] => {
            let name = parameter(&request, "name");
            // The sender lives as long as `seen`.
            seen.finished.subscribe().wait_for(|finished| finished.contains(&name)).await.ok();
            echo(&request)
        }
        [.., "stream"] => chunks(Arc::clone(&seen), parameter(&request, "name")),
        [.., "grpc"] => grpc(),
        [..] => echo(&request),
    }
}

fn header_text(headers: &HeaderMap, name: &str) -> String {
    let bytes = headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

fn parameter(request: &Request, name: &str) -> String {
    let query = request.uri().query().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).collect()
}

fn echo(request: &Request) -> Response {
    let mut headers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in request.headers() {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.as_str()).or_default().push(text);
    }
    let body = serde_json::json!({
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "headers": headers,
    });
    axum::Json(body).into_response()
}

fn chunks(seen: Arc<Seen>, name: String) -> Response {
    let ticks = stream::unfold((seen, name), |(seen, name)| async move {
        if seen.finished.borrow().contains(&name) {
            return None;
        }
        tokio::time::sleep(CHUNK_INTERVAL).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"tick\n")), (seen, name)))
    });
    Body::from_stream(ticks).into_response()
}

fn grpc() -> Response {
    // Five bytes of frame header: not compressed, length 0.
    let message = Frame::data(Bytes::from_static(&[0; 5]));
    let trailers = HeaderMap::from_iter([(
        header::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let frames = [message, Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let body = StreamBody::new(stream::iter(frames));
    let content_type = [(header::CONTENT_TYPE, "application/grpc")];
    (content_type, Body::new(body)).into_response()
}
