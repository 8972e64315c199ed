//! A small HTTP server that answers as it is told.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What it answers.
#[derive(Clone)]
pub(super) enum Reply {
    /// A status and a body.
    Status(u16, String),
    /// A line of the head, and no body.
    Redirect(String),
    /// A body whose length is not said beforehand.
    Unsized(String),
    /// No HTTP.
    Noise,
    /// Nothing, and the connection stays open.
    Silence,
}

#[derive(Clone)]
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(super) struct Site {
    pub(super) url: String,
    state: Arc<Mutex<(Reply, Vec<Request>)>>,
    task: AbortHandle,
}

impl Site {
    pub(super) async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/there", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new((reply, Vec::new())));
        let of_task = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, of_task.clone()));
            }
        });
        Self { url, state, task: task.abort_handle() }
    }

    pub(super) fn reply(&self, reply: Reply) {
        self.state.lock().unwrap().0 = reply;
    }

    pub(super) fn json(&self, json: impl Into<String>) {
        self.reply(Reply::Status(200, json.into()));
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().1.clone()
    }

    pub(super) fn asked(&self) -> usize {
        self.state.lock().unwrap().1.len()
    }

    /// Nobody listens there any more.
    pub(super) fn close(&self) {
        self.task.abort();
    }
}

async fn serve(mut socket: TcpStream, state: Arc<Mutex<(Reply, Vec<Request>)>>) {
    let Some(request) = read(&mut socket).await else { return };
    let reply = {
        let mut state = state.lock().unwrap();
        state.1.push(request);
        state.0.clone()
    };
    let head = |status: u16, more: &str| format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{more}\r\n");
    let answer = match reply {
        Reply::Status(status, body) => {
            let length = format!("content-length: {}\r\n", body.len());
            [head(status, &length).as_bytes(), body.as_bytes()].concat()
        }
        Reply::Redirect(to) => head(302, &format!("location: {to}\r\ncontent-length: 0\r\n")).into_bytes(),
        Reply::Unsized(body) => [head(200, "").as_bytes(), body.as_bytes()].concat(),
        Reply::Noise => b"220 mail.example ESMTP\r\n".to_vec(),
        Reply::Silence => std::future::pending::<Vec<u8>>().await,
    };
    let _ = socket.write_all(&answer).await;
}

async fn read(socket: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = &bytes[end + 4..];
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some(Request { head, body: body.to_vec() });
        }
    }
}
