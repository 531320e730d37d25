//! Requests and responses, and what makes them malformed (RFC 9114, sections 4.1.2 to 4.5).

use crate::error::Malformed;
use crate::qpack::{Field, FieldRef};

/// The head of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// `:method`.
    pub method: Vec<u8>,
    /// `:scheme`; empty for CONNECT without a protocol.
    pub scheme: Vec<u8>,
    /// `:authority`; empty if there is none, then a field `host` may say it.
    pub authority: Vec<u8>,
    /// `:path`; empty for CONNECT without a protocol.
    pub path: Vec<u8>,
    /// `:protocol` of an extended CONNECT (RFC 9220).
    pub protocol: Option<Vec<u8>>,
    /// How long the content is. When sending, the field is added if it is not among `fields`.
    pub content_length: Option<u64>,
    /// All other fields, in order.
    pub fields: Vec<Field>,
}

/// The head of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// `:status`.
    pub status: u16,
    /// As in [`RequestHead::content_length`].
    pub content_length: Option<u64>,
    /// All other fields, in order.
    pub fields: Vec<Field>,
}

impl RequestHead {
    /// A GET over https.
    pub fn get(authority: impl Into<Vec<u8>>, path: impl Into<Vec<u8>>) -> Self {
        Self {
            method: b"GET".to_vec(),
            scheme: b"https".to_vec(),
            authority: authority.into(),
            path: path.into(),
            ..Self::default()
        }
    }

    pub(crate) fn is_connect(&self) -> bool {
        self.method == b"CONNECT"
    }

    pub(crate) fn from_fields(mut fields: Vec<Field>) -> Result<Self, Malformed> {
        let names: [&[u8]; 5] = [b":method", b":scheme", b":authority", b":path", b":protocol"];
        let [method, scheme, authority, path, protocol] = take_pseudo(&mut fields, names)?;
        if [&method, &scheme, &authority, &path, &protocol].into_iter().flatten().any(Vec::is_empty) {
            return Err(Malformed("an empty pseudo-header field"));
        }
        let head = Self {
            method: method.unwrap_or_default(),
            scheme: scheme.unwrap_or_default(),
            authority: authority.unwrap_or_default(),
            path: path.unwrap_or_default(),
            protocol,
            content_length: content_length(&fields)?,
            fields: join_cookies(fields),
        };
        head.check()?;
        Ok(head)
    }

    /// As fields, if it may be sent; the text of content-length is kept in `length`.
    pub(crate) fn to_fields<'a>(&'a self, length: &'a mut String) -> Result<Vec<FieldRef<'a>>, Malformed> {
        self.check()?;
        check_fields(&self.fields)?;
        let pseudo = [
            (&b":method"[..], Some(&self.method)),
            (b":scheme", Some(&self.scheme)),
            (b":authority", Some(&self.authority)),
            (b":path", Some(&self.path)),
            (b":protocol", self.protocol.as_ref()),
        ];
        let mut fields: Vec<_> = pseudo
            .into_iter()
            .filter_map(|(name, value)| {
                let value = value.filter(|value| !value.is_empty())?;
                Some(FieldRef { name, value, sensitive: false })
            })
            .collect();
        append_fields(&mut fields, &self.fields, self.content_length, length)?;
        Ok(fields)
    }

    fn check(&self) -> Result<(), Malformed> {
        if !is_token(&self.method) {
            return Err(Malformed("no valid method"));
        }
        if self.protocol.as_ref().is_some_and(Vec::is_empty) {
            return Err(Malformed("an empty protocol"));
        }
        for value in [&self.scheme, &self.authority, &self.path].into_iter().chain(&self.protocol) {
            if value.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
                return Err(Malformed("an invalid byte in a pseudo-header field"));
            }
        }
        let host = self.host()?;
        match (self.is_connect(), &self.protocol) {
            (true, None) => {
                return if self.authority.is_empty() || !self.scheme.is_empty() || !self.path.is_empty() {
                    Err(Malformed("CONNECT needs an authority, and neither scheme nor path"))
                } else {
                    Ok(())
                };
            }
            (true, Some(_)) if self.authority.is_empty() => {
                return Err(Malformed("CONNECT without an authority"));
            }
            (false, Some(_)) => return Err(Malformed("a protocol without CONNECT")),
            _ => {}
        }
        if self.scheme.is_empty() || self.path.is_empty() {
            return Err(Malformed("no scheme or no path"));
        }
        let authority = match (&self.authority[..], host) {
            (b"", Some(host)) => host,
            (authority, Some(host)) if authority != host => {
                return Err(Malformed("authority and host differ"));
            }
            (authority, _) => authority,
        };
        if [&b"http"[..], b"https"].contains(&&self.scheme[..]) {
            if authority.is_empty() || authority.contains(&b'@') {
                return Err(Malformed("no valid authority"));
            }
            if self.path[0] != b'/' && !(self.method == b"OPTIONS" && self.path == b"*") {
                return Err(Malformed("no valid path"));
            }
        }
        Ok(())
    }

    fn host(&self) -> Result<Option<&[u8]>, Malformed> {
        let mut hosts = self.fields.iter().filter(|field| field.name == b"host");
        let host = hosts.next().map(|field| &field.value[..]);
        if hosts.next().is_some() {
            return Err(Malformed("more than one host"));
        }
        Ok(host)
    }
}

impl ResponseHead {
    /// A head without fields.
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Whether another head follows.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }

    pub(crate) fn from_fields(mut fields: Vec<Field>) -> Result<Self, Malformed> {
        let [status] = take_pseudo(&mut fields, [b":status"])?;
        let status = match status.as_deref() {
            Some([a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                [a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(**digit - b'0'))
            }
            _ => return Err(Malformed("no valid status")),
        };
        let head = Self { status, content_length: content_length(&fields)?, fields };
        head.check()?;
        Ok(head)
    }

    /// As fields, if it may be sent; `texts` keeps the texts of numbers.
    pub(crate) fn to_fields<'a>(
        &'a self,
        texts: &'a mut [String; 2],
    ) -> Result<Vec<FieldRef<'a>>, Malformed> {
        self.check()?;
        check_fields(&self.fields)?;
        let [status, length] = texts;
        *status = self.status.to_string();
        let mut fields = vec![FieldRef { name: b":status", value: status.as_bytes(), sensitive: false }];
        append_fields(&mut fields, &self.fields, self.content_length, length)?;
        Ok(fields)
    }

    fn check(&self) -> Result<(), Malformed> {
        match self.status {
            // HTTP/3 switches protocols by extended CONNECT only (section 4.5).
            101 => Err(Malformed("status 101")),
            100..=999 => Ok(()),
            _ => Err(Malformed("no valid status")),
        }
    }
}

/// Trailers as fields, if they may be sent.
pub(crate) fn trailers_to_fields(trailers: &[Field]) -> Result<Vec<FieldRef<'_>>, Malformed> {
    check_fields(trailers)?;
    Ok(trailers.iter().map(Field::borrowed).collect())
}

/// Trailers as they came, if they are well-formed.
pub(crate) fn check_trailers(fields: Vec<Field>) -> Result<Vec<Field>, Malformed> {
    check_fields(&fields)?;
    Ok(fields)
}

/// Takes the pseudo-header fields out, each at most once; behind others there must be none.
fn take_pseudo<const N: usize>(
    fields: &mut Vec<Field>,
    names: [&[u8]; N],
) -> Result<[Option<Vec<u8>>; N], Malformed> {
    let mut pseudo = [const { None }; N];
    let count = fields.iter().take_while(|field| field.name.first() == Some(&b':')).count();
    for field in fields.drain(..count) {
        let index = names.iter().position(|name| *name == field.name);
        let index = index.ok_or(Malformed("an unknown pseudo-header field"))?;
        if pseudo[index].replace(field.value).is_some() {
            return Err(Malformed("a pseudo-header field twice"));
        }
    }
    check_fields(fields)?;
    Ok(pseudo)
}

/// Regular fields (section 4.2).
fn check_fields(fields: &[Field]) -> Result<(), Malformed> {
    for Field { name, value, .. } in fields {
        if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
            return Err(Malformed("an invalid field name"));
        }
        check_value(value)?;
        match &name[..] {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                return Err(Malformed("a field that is about one connection"));
            }
            b"te" if value != b"trailers" => return Err(Malformed("te other than trailers")),
            _ => {}
        }
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), Malformed> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
        || blank(value.first())
        || blank(value.last())
    {
        return Err(Malformed("an invalid field value"));
    }
    Ok(())
}

fn is_token(bytes: &[u8]) -> bool {
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(valid)
}

/// Repeating the same length is harmless (RFC 9110, section 8.6).
fn content_length(fields: &[Field]) -> Result<Option<u64>, Malformed> {
    let wrong = Malformed("no valid content-length");
    let mut length = None;
    for field in fields.iter().filter(|field| field.name == b"content-length") {
        for value in field.value.split(|byte| *byte == b',') {
            let value = value.trim_ascii();
            if !value.iter().all(u8::is_ascii_digit) {
                return Err(wrong);
            }
            let value = str::from_utf8(value).ok().and_then(|value| value.parse().ok()).ok_or(wrong)?;
            if length.is_some_and(|length| length != value) {
                return Err(wrong);
            }
            length = Some(value);
        }
    }
    Ok(length)
}

/// Cookies may be cut to compress better; nobody but HTTP/2 and HTTP/3 knows that (section 4.2.1).
fn join_cookies(mut fields: Vec<Field>) -> Vec<Field> {
    let Some(first) = fields.iter().position(|field| field.name == b"cookie") else { return fields };
    let mut others = fields.split_off(first + 1);
    others.retain(|field| {
        let is_cookie = field.name == b"cookie";
        if is_cookie {
            let joined = &mut fields[first];
            joined.value.extend_from_slice(b"; ");
            joined.value.extend_from_slice(&field.value);
            joined.sensitive |= field.sensitive;
        }
        !is_cookie
    });
    fields.append(&mut others);
    fields
}

fn append_fields<'a>(
    out: &mut Vec<FieldRef<'a>>,
    fields: &'a [Field],
    length: Option<u64>,
    text: &'a mut String,
) -> Result<(), Malformed> {
    let said = content_length(fields)?;
    out.extend(fields.iter().map(Field::borrowed));
    match (length, said) {
        (Some(length), None) => {
            *text = length.to_string();
            out.push(FieldRef { name: b"content-length", value: text.as_bytes(), sensitive: false });
            Ok(())
        }
        (Some(length), Some(said)) if length != said => Err(Malformed("two content lengths")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<Field> {
        let split = |line: &str| {
            let (name, value) = line.split_once('=').unwrap();
            Field::new(name, value)
        };
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(split).collect()
    }

    fn request(text: &str) -> Result<RequestHead, Malformed> {
        RequestHead::from_fields(fields(text))
    }

    const GET: &str = ":method=GET\n:scheme=https\n:authority=router\n:path=/\n";

    #[test]
    fn well_formed_requests_are_read_and_written_alike() {
        for text in [
            GET.to_owned(),
            format!("{GET}te=trailers\nx=a b"),
            ":method=OPTIONS\n:scheme=http\n:authority=router\n:path=*".into(),
            ":method=CONNECT\n:authority=router:443".into(),
            ":method=CONNECT\n:scheme=https\n:authority=router\n:path=/chat\n:protocol=websocket".into(),
            ":method=GET\n:scheme=https\n:path=/\nhost=router".into(),
            format!("{GET}host=router"),
            ":method=PUT\n:scheme=coap\n:path=any".into(),
            format!("{GET}content-length=5"),
        ] {
            let head = request(&text).unwrap();
            let mut length = String::new();
            let written = head.to_fields(&mut length).unwrap();
            let written: Vec<_> = written.iter().map(|field| Field::new(field.name, field.value)).collect();
            assert_eq!(written, fields(&text));
        }
    }

    #[test]
    fn malformed_requests_are_refused() {
        for text in [
            "",
            ":method=GET\n:scheme=https\n:authority=router",
            ":method=GET\n:authority=router\n:path=/",
            ":scheme=https\n:authority=router\n:path=/",
            ":method=GET\n:scheme=https\n:path=/",
            ":method=GET\n:scheme=https\n:authority=\n:path=/\nhost=router",
            ":method=GET\n:scheme=https\n:authority=router\n:path=",
            ":method=GET\n:scheme=https\n:authority=router\n:path=x",
            ":method=GET\n:scheme=https\n:authority=router\n:path=*",
            ":method=GET\n:scheme=https\n:authority=a@router\n:path=/",
            ":method=G T\n:scheme=https\n:authority=router\n:path=/",
            ":method=GET\n:scheme=https\n:authority=router\n:path=/\n:protocol=websocket",
            ":method=CONNECT\n:scheme=https\n:path=/\n:protocol=websocket",
            ":method=CONNECT\n:scheme=https\n:authority=router\n:path=/",
            ":method=CONNECT",
            &format!("{GET}:path=/"),
            &format!(":path=/\n{GET}"),
            &format!("{GET}:status=200"),
            &format!("{GET}x=1\n:extra=2"),
            &format!(":extra=2\n{GET}"),
            &format!("x=1\n{GET}"),
            &format!("{GET}host=another"),
            &format!("{GET}host=router\nhost=router"),
            &format!("{GET}X=1"),
            &format!("{GET}x y=1"),
            &format!("{GET}=1"),
            &format!("{GET}x=a\0"),
            &format!("{GET}x=a\rb"),
            &format!("{GET}te=gzip"),
            &format!("{GET}connection=close"),
            &format!("{GET}keep-alive=1"),
            &format!("{GET}proxy-connection=1"),
            &format!("{GET}transfer-encoding=chunked"),
            &format!("{GET}upgrade=h2c"),
            &format!("{GET}content-length=a"),
            &format!("{GET}content-length="),
            &format!("{GET}content-length=-1"),
            &format!("{GET}content-length=+1"),
            &format!("{GET}content-length=99999999999999999999"),
            &format!("{GET}content-length=1\ncontent-length=2"),
            &format!("{GET}content-length=1, 2"),
        ] {
            assert!(request(text).is_err(), "{text}");
        }
        for value in [" a", "a ", "\ta", "a\n"] {
            let mut fields = fields(GET);
            fields.push(Field::new("x", value));
            assert!(RequestHead::from_fields(fields).is_err(), "{value:?}");
        }
    }

    #[test]
    fn a_repeated_length_counts_once_and_cookies_are_joined() {
        assert_eq!(
            request(&format!("{GET}content-length=7, 7\ncontent-length=7")).unwrap().content_length,
            Some(7)
        );
        let head = request(&format!("{GET}cookie=a=1\nx=1\ncookie=b=2\ncookie=c=3")).unwrap();
        assert_eq!(head.fields, fields("cookie=a=1; b=2; c=3\nx=1"));
    }

    #[test]
    fn responses_have_one_status_of_three_digits() {
        let status = |text: &str| ResponseHead::from_fields(fields(text)).map(|head| head.status);
        assert_eq!(status(":status=200\nx=1"), Ok(200));
        assert_eq!(status(":status=103"), Ok(103));
        for wrong in
            ["", ":status=", ":status=20", ":status=2000", ":status=099", ":status=2x0", ":status=101"]
        {
            assert!(status(wrong).is_err(), "{wrong}");
        }
        assert!(status(":status=200\n:status=200").is_err());
        assert!(status(":status=200\n:path=/").is_err());
        assert!(status("x=1\n:status=200").is_err());
        assert!(check_trailers(fields(":status=200")).is_err());
        assert!(check_trailers(fields("x=1")).is_ok());
    }

    #[test]
    fn nothing_malformed_is_written() {
        let mut head = RequestHead::get("router", "/");
        head.content_length = Some(3);
        let mut length = String::new();
        let last = *head.to_fields(&mut length).unwrap().last().unwrap();
        assert_eq!((last.name, last.value), (&b"content-length"[..], &b"3"[..]));
        head.fields = fields("content-length=4");
        assert!(head.to_fields(&mut String::new()).is_err());
        for wrong in ["X=1", "connection=close", ":path=/"] {
            head.fields = fields(wrong);
            head.content_length = None;
            assert!(head.to_fields(&mut String::new()).is_err());
            let response = ResponseHead { fields: fields(wrong), ..ResponseHead::new(200) };
            assert!(response.to_fields(&mut Default::default()).is_err());
            assert!(trailers_to_fields(&fields(wrong)).is_err());
        }
        assert!(RequestHead::get("router", "no path").to_fields(&mut String::new()).is_err());
        assert!(RequestHead::get("", "/").to_fields(&mut String::new()).is_err());
        assert!(ResponseHead::new(101).to_fields(&mut Default::default()).is_err());
        assert!(ResponseHead::new(99).to_fields(&mut Default::default()).is_err());
    }
}
