//! Error codes on the wire, and what the calls of this crate can answer.

use std::fmt;

/// An error code of HTTP/3, as streams and connections are ended with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u64);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The name in the registry, if it has one.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// RFC 9297: a datagram that cannot be read.
    H3_DATAGRAM_ERROR = 0x33;
    /// No error; the connection or stream is no longer needed.
    H3_NO_ERROR = 0x100;
    /// The peer broke the protocol in a way no other code names.
    H3_GENERAL_PROTOCOL_ERROR = 0x101;
    /// This end broke.
    H3_INTERNAL_ERROR = 0x102;
    /// A stream the peer may not open.
    H3_STREAM_CREATION_ERROR = 0x103;
    /// A stream the connection cannot live without was closed.
    H3_CLOSED_CRITICAL_STREAM = 0x104;
    /// A frame that has no place here.
    H3_FRAME_UNEXPECTED = 0x105;
    /// A frame whose layout or size is wrong.
    H3_FRAME_ERROR = 0x106;
    /// The peer makes more work than it should.
    H3_EXCESSIVE_LOAD = 0x107;
    /// A stream or push id used twice, too large, or going the wrong way.
    H3_ID_ERROR = 0x108;
    /// Settings that contradict themselves or what was remembered.
    H3_SETTINGS_ERROR = 0x109;
    /// The control stream did not begin with SETTINGS.
    H3_MISSING_SETTINGS = 0x10a;
    /// The server did nothing with the request: it may be sent again.
    H3_REQUEST_REJECTED = 0x10b;
    /// The request, or its response, is no longer wanted.
    H3_REQUEST_CANCELLED = 0x10c;
    /// The client's stream ended before the request was whole.
    H3_REQUEST_INCOMPLETE = 0x10d;
    /// A message that is malformed.
    H3_MESSAGE_ERROR = 0x10e;
    /// The connection behind a CONNECT request broke.
    H3_CONNECT_ERROR = 0x10f;
    /// The request cannot be served over HTTP/3.
    H3_VERSION_FALLBACK = 0x110;
    /// RFC 9204: a field section that cannot be decoded.
    QPACK_DECOMPRESSION_FAILED = 0x200;
    /// RFC 9204: nonsense on the encoder's stream.
    QPACK_ENCODER_STREAM_ERROR = 0x201;
    /// RFC 9204: nonsense on the decoder's stream.
    QPACK_DECODER_STREAM_ERROR = 0x202;
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct ConnectionError {
    /// The code the connection is closed with.
    pub code: Code,
    /// For a person to read; it goes into CONNECTION_CLOSE.
    pub reason: &'static str,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Why a call was refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed,
    /// More, or less, content than content-length says.
    #[error("the content is not as long as content-length says")]
    ContentLength,
    /// One end has sent GOAWAY.
    #[error("the connection is shutting down")]
    GoingAway,
    /// The message is not one that may be sent.
    #[error("malformed message: {0}")]
    Malformed(#[from] Malformed),
    /// The peer's SETTINGS do not allow it, or did not come yet.
    #[error("the peer has not enabled {0}")]
    NotEnabled(&'static str),
    /// The client allows no further push.
    #[error("the client allows no further push")]
    PushLimit,
    /// The peer would refuse fields of this size.
    #[error("the fields are larger than the peer accepts")]
    TooLarge,
    /// As many requests are open as are allowed.
    #[error("too many requests are open")]
    TooManyRequests,
    /// There is no such stream or push.
    #[error("no such stream or push")]
    Unknown,
    /// It has no place at this point of the stream, or in this role.
    #[error("not possible now: {0}")]
    WrongState(&'static str),
}

impl Error {
    /// The code that comes nearest.
    pub const fn code(&self) -> Code {
        match self {
            Self::Closed | Self::WrongState(_) => Code::H3_GENERAL_PROTOCOL_ERROR,
            Self::ContentLength | Self::Malformed(_) => Code::H3_MESSAGE_ERROR,
            Self::GoingAway => Code::H3_REQUEST_REJECTED,
            Self::NotEnabled(_) => Code::H3_SETTINGS_ERROR,
            Self::PushLimit | Self::Unknown => Code::H3_ID_ERROR,
            Self::TooLarge | Self::TooManyRequests => Code::H3_EXCESSIVE_LOAD,
        }
    }
}

/// What handling input can end in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Connection(ConnectionError),
    /// Only the stream that is being handled ends.
    Stream(Code),
}

impl Failure {
    pub(crate) const fn connection(code: Code, reason: &'static str) -> Self {
        Self::Connection(ConnectionError { code, reason })
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::Stream(Code::H3_MESSAGE_ERROR)
    }
}
