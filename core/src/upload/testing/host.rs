//! A host that carries tasks, by the shortest HTTP client there is.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::super::{TaskResult, UploadTask};

/// Carries one task over a connection of its own. `patience` bounds the wait for each piece of the answer.
pub(in super::super) fn carry(task: &UploadTask, patience: Duration) -> TaskResult {
    attempt(task, patience).unwrap_or_else(|error| TaskResult::Failed { error: error.to_string() })
}

fn attempt(task: &UploadTask, patience: Duration) -> std::io::Result<TaskResult> {
    let garbage = || std::io::Error::other("not an answer in HTTP");
    let rest = task.url.strip_prefix("http://").expect("a plain URL");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(patience))?;
    let mut request =
        format!("POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n", task.body.len());
    for (name, value) in &task.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(&[request.as_bytes(), b"\r\n", &task.body].concat())?;

    let mut reader = BufReader::new(stream.take(100_000));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status =
        line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(garbage)?;
    let (mut retry_after, mut length) = (None, 0_u64);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(garbage());
        }
        match line.trim_end().split_once(": ") {
            None if line.trim_end().is_empty() => break,
            None => return Err(garbage()),
            Some(("Retry-After", value)) => retry_after = Some(value.to_owned()),
            Some(("Content-Length", value)) => length = value.parse().map_err(|_| garbage())?,
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    // A cut body still has a status.
    let _ = reader.take(length.min(2_000)).read_to_end(&mut body);
    Ok(TaskResult::Answered { status, retry_after, body })
}
