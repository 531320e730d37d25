//! What a server answers whose program does not take requests itself: the original's routes for trying it out.

use super::side::MAX_KEPT;
use http3::whole::{Request, Response};
use http3::{Field, ResponseHead};

pub(super) fn answer(request: &Request) -> Response {
    let path = &request.head.path[..];
    let (route, query) = match path.iter().position(|byte| *byte == b'?') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &path[..0]),
    };
    let allowed: &[&[u8]] = match route {
        b"/_coquic/echo" | b"/_coquic/inspect" | b"/_coquic/speed/upload" => &[b"POST"],
        b"/_coquic/speed/ping" | b"/_coquic/speed/download" => &[b"GET", b"HEAD"],
        _ => return response(404, &[], Vec::new()),
    };
    if !allowed.contains(&&request.head.method[..]) {
        return response(405, &[("allow", &allowed.join(&b", "[..]))], Vec::new());
    }
    let octets = ("content-type", &b"application/octet-stream"[..]);
    let json = ("content-type", &b"application/json"[..]);
    let fresh = ("cache-control", &b"no-store"[..]);
    match route {
        b"/_coquic/echo" => response(200, &[octets], request.body.clone()),
        b"/_coquic/inspect" => response(200, &[json], inspect(request).into_bytes()),
        b"/_coquic/speed/ping" => response(204, &[fresh], Vec::new()),
        b"/_coquic/speed/upload" => response(
            200,
            &[json, fresh],
            format!("{{\"received_bytes\":{}}}", request.body.len()).into_bytes(),
        ),
        _ => match asked(query) {
            Some(count) if (1..=MAX_KEPT).contains(&count) => {
                response(200, &[octets, fresh], (b'A'..b'A' + 23).cycle().take(count).collect())
            }
            _ => response(400, &[fresh], Vec::new()),
        },
    }
}

fn response(status: u16, fields: &[(&str, &[u8])], body: Vec<u8>) -> Response {
    let head = ResponseHead {
        status,
        // A length has no place in an answer that cannot have content (RFC 9110, section 8.6).
        content_length: (status != 204).then_some(body.len() as u64),
        fields: fields.iter().map(|(name, value)| Field::new(*name, *value)).collect(),
    };
    Response { head, body, ..Response::default() }
}

/// The number behind `bytes=`, if it is there once.
fn asked(query: &[u8]) -> Option<usize> {
    let mut values = query.split(|byte| *byte == b'&').filter_map(|pair| pair.strip_prefix(b"bytes="));
    let value = values.next()?;
    if values.next().is_some() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}

fn inspect(request: &Request) -> String {
    let length = request.head.content_length.map_or("null".to_owned(), |length| length.to_string());
    let trailers: Vec<_> = request
        .trailers
        .iter()
        .map(|field| format!("{{\"name\":{},\"value\":{}}}", quoted(&field.name), quoted(&field.value)))
        .collect();
    format!(
        "{{\"method\":{},\"content_length\":{length},\"body_bytes\":{},\"trailers\":[{}]}}",
        quoted(&request.head.method),
        request.body.len(),
        trailers.join(",")
    )
}

fn quoted(text: &[u8]) -> String {
    let mut out = String::from("\"");
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => out += &format!("\\u{:04x}", u32::from(control)),
            other => out.push(other),
        }
    }
    out + "\""
}
