//! The plain values of the interface: handles, settings, commands, errors.

use std::fmt;

/// Names a connection of one endpoint. They count from 1; 0 is in effects that belong to no connection.
pub type ConnectionHandle = u64;
/// Names a network path; what it means only the caller knows, for example an index into a table of peers' addresses.
pub type RouteHandle = u64;
/// A stream's id as on the wire: the two lowest bits say who opened it (server: 1) and whether it goes one way (2).
pub type StreamId = u64;
/// Microseconds of the caller's clock, which must not run backwards.
pub type TimeUs = u64;

/// What a call returns. What the protocol refuses is not here but a [`LocalError`] of the result.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// Done.
    Ok,
    /// A value that cannot be used, or an endpoint that is gone or in use.
    InvalidArgument,
    /// Memory could not be had.
    OutOfMemory,
    /// A defect of the library.
    InternalError,
    /// A number that this version does not know.
    Unknown(u8),
}

impl Status {
    /// The number of it in C.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::InvalidArgument => 1,
            Self::OutOfMemory => 2,
            Self::InternalError => 3,
            Self::Unknown(code) => code,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::InvalidArgument => f.write_str("invalid argument"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::InternalError => f.write_str("internal error"),
            Self::Unknown(code) => write!(f, "unknown status {code}"),
        }
    }
}

impl std::error::Error for Status {}

/// Which side an endpoint is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// Opens connections.
    #[default]
    Client,
    /// Accepts connections.
    Server,
}

/// What is done with a handshake after a Retry that does not fit it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RetryHandshakeValidationPolicy {
    /// Nothing beyond what QUIC asks for.
    #[default]
    Disabled,
    /// The packet is ignored. Not supported.
    Discard,
    /// The connection is closed with an error, as always here.
    ConnectionError,
}

/// How the sending rate is found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CongestionControl {
    /// RFC 9002's.
    #[default]
    NewReno,
    /// RFC 9438's.
    Cubic,
    /// Bottleneck bandwidth and round-trip time.
    Bbr,
    /// Not supported.
    Copa,
    /// Not supported.
    Pcc,
    /// Not supported.
    PccVivace,
}

/// The two bits of an IP header for explicit congestion notification.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EcnCodepoint {
    /// The caller's socket does not tell.
    #[default]
    Unavailable,
    /// Not capable.
    NotEct,
    /// ECT(0).
    Ect0,
    /// ECT(1).
    Ect1,
    /// Congestion was experienced.
    Ce,
}

/// Which mark is sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EcnPolicy {
    /// ECT(0).
    #[default]
    Rfc9000Ect0,
    /// ECT(1). Not supported.
    Rfc8311Ect1,
}

/// How far a connection has got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StateChange {
    /// Streams may be used.
    HandshakeReady,
    /// The peer has completed the handshake, too.
    HandshakeConfirmed,
    /// It ended by an error: of the protocol, of time, by a reset.
    Failed,
    /// A number that this version does not know.
    Unknown(u8),
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LocalErrorCode {
    /// No such connection, or not here and now.
    UnsupportedOperation,
    /// There is no such stream, or not yet.
    InvalidStreamId,
    /// That direction of the stream is not ours.
    InvalidStreamDirection,
    /// It was finished, reset, or the peer does not want more.
    SendSideClosed,
    /// It was received completely, reset, or not wanted any more.
    ReceiveSideClosed,
    /// More than what was said to be all.
    FinalSizeConflict,
    /// The peer takes no datagrams, or this side does not.
    DatagramNotSupported,
    /// It does not fit into a packet.
    DatagramTooLarge,
    /// More is waiting to be sent than is kept for one connection.
    FlowControlViolation,
    /// A number that this version does not know.
    Unknown(u8),
}

/// The beginning and end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lifecycle {
    /// By [`Endpoint::open_connection`](crate::Endpoint::open_connection).
    Created,
    /// By a peer.
    Accepted,
    /// The handle is not valid any more.
    Closed,
    /// A number that this version does not know.
    Unknown(u8),
}

/// Why a connection is to go another way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MigrationReason {
    /// This side wants to.
    #[default]
    Active,
    /// The server offered an address. Not supported.
    PreferredAddress,
}

/// What became of early data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ZeroRttStatus {
    /// There is no session to resume, or none that allows it.
    Unavailable,
    /// There is one, but it was not asked for.
    NotAttempted,
    /// Streams may be used before the handshake is done.
    Attempted,
    /// The server took what was sent early.
    Accepted,
    /// The server ignored it: what was sent is to be sent again, on streams counted anew.
    Rejected,
    /// A number that this version does not know.
    Unknown(u8),
}

/// Which way an inspected packet went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketInspectionDirection {
    /// It is to be sent.
    Outbound,
    /// It was received.
    Inbound,
    /// A number that this version does not know.
    Unknown(u8),
}

/// What kind of packet was inspected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketInspectionPacketType {
    /// Initial.
    Initial,
    /// 0-RTT.
    ZeroRtt,
    /// Handshake.
    Handshake,
    /// 1-RTT.
    OneRtt,
    /// A number that this version does not know.
    Unknown(u8),
}

/// A certificate chain and the key of its first certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsIdentity {
    /// The certificates, the end entity's first.
    pub certificate_pem: Vec<u8>,
    /// The key: PKCS #8, SEC 1 or PKCS #1.
    pub private_key_pem: Vec<u8>,
}

/// Early data.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ZeroRttConfig {
    /// As a client: send it if the session allows.
    pub attempt: bool,
    /// As a server: take it.
    pub allow: bool,
    /// No effect: a session lives as long as its endpoint, whose transport settings do not change.
    pub strict_updated_transport_parameters: bool,
    /// A session resumed under another context sends no early data.
    pub application_context: Vec<u8>,
}

/// No effect: early packets that come before their Initial are dropped, and sent again by the peer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OrphanZeroRttBufferConfig {
    /// Packets kept.
    pub max_packets: usize,
    /// Bytes of these.
    pub max_bytes: usize,
    /// How long.
    pub max_age_us: TimeUs,
}

/// QUIC's settings. The README's table says which the engine cannot follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransportConfig {
    /// Milliseconds of silence after which a connection ends; 0 is never.
    pub max_idle_timeout: u64,
    /// The largest datagram that is taken.
    pub max_udp_payload_size: u64,
    /// Look for larger datagrams that the path takes.
    pub pmtud_enabled: bool,
    /// The size to begin with.
    pub pmtud_base_datagram_size: usize,
    /// The largest size to try; 0 is 1452, or more if `max_outbound_datagram_size` is.
    pub pmtud_max_datagram_size: usize,
    /// No effect: it is 5.
    pub active_connection_id_limit: u64,
    /// As a server: tell clients not to move.
    pub disable_active_migration: bool,
    /// No effect.
    pub defer_active_migration_path_validation: bool,
    /// No effect.
    pub migration_recovery_retention_timeout_us: TimeUs,
    /// No effect: it is 3.
    pub ack_delay_exponent: u64,
    /// No effect: it is 25 ms.
    pub max_ack_delay: u64,
    /// Acknowledge every so many packets, if the peer can be asked to as well.
    pub ack_eliciting_threshold: u64,
    /// Bytes a peer may send on all its streams before they are read.
    pub initial_max_data: u64,
    /// Bytes on one stream; the largest of the three counts for every stream.
    pub initial_max_stream_data_bidi_local: u64,
    /// See `initial_max_stream_data_bidi_local`.
    pub initial_max_stream_data_bidi_remote: u64,
    /// See `initial_max_stream_data_bidi_local`.
    pub initial_max_stream_data_uni: u64,
    /// Streams in both directions that a peer may have open: up to 65,536, for each of which a connection takes memory from its beginning.
    pub initial_max_streams_bidi: u64,
    /// Streams in one direction that a peer may have open: up to 65,536.
    pub initial_max_streams_uni: u64,
    /// The largest datagram frame that is taken; 0 is none.
    pub max_datagram_frame_size: u64,
    /// How the sending rate is found.
    pub congestion_control: CongestionControl,
    /// No effect: slow start is the plain one.
    pub enable_hystart_plus_plus: bool,
    /// Streams of one priority take turns.
    pub send_stream_fairness: bool,
    /// Let observers measure the round-trip time.
    pub enable_latency_spin_bit: bool,
    /// No effect: reserved versions are in every Version Negotiation.
    pub grease_reserved_versions: bool,
    /// Send packets with the fixed bit cleared to peers that take them.
    pub grease_quic_bit: bool,
    /// No effect: packet numbers are always skipped now and then.
    pub enable_optimistic_ack_mitigation: bool,
    /// No effect: packets are never held back.
    pub underfilled_packet_coalescing_delay_us: TimeUs,
    /// Which mark is sent.
    pub ecn_policy: EcnPolicy,
    /// No effect.
    pub pmtud_provisional_icmp_reductions: bool,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            max_idle_timeout: 0,
            max_udp_payload_size: 65527,
            pmtud_enabled: true,
            pmtud_base_datagram_size: 1200,
            pmtud_max_datagram_size: 0,
            active_connection_id_limit: 2,
            disable_active_migration: false,
            defer_active_migration_path_validation: false,
            migration_recovery_retention_timeout_us: 0,
            ack_delay_exponent: 3,
            max_ack_delay: 25,
            ack_eliciting_threshold: 2,
            initial_max_data: 1024 * 1024,
            initial_max_stream_data_bidi_local: 256 * 1024,
            initial_max_stream_data_bidi_remote: 256 * 1024,
            initial_max_stream_data_uni: 256 * 1024,
            initial_max_streams_bidi: 16,
            initial_max_streams_uni: 16,
            max_datagram_frame_size: 65535,
            congestion_control: CongestionControl::NewReno,
            enable_hystart_plus_plus: true,
            send_stream_fairness: true,
            enable_latency_spin_bit: false,
            grease_reserved_versions: false,
            grease_quic_bit: false,
            enable_optimistic_ack_mitigation: false,
            underfilled_packet_coalescing_delay_us: 0,
            ecn_policy: EcnPolicy::Rfc9000Ect0,
            pmtud_provisional_icmp_reductions: false,
        }
    }
}

/// An endpoint's settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointConfig {
    /// Which side it is.
    pub role: Role,
    /// QUIC versions; empty is version 1, which must be among them and is the only one spoken.
    pub supported_versions: Vec<u32>,
    /// As a client: the server's certificate must be valid and for the name asked for.
    pub verify_peer: bool,
    /// As a server: every client has to prove its address first.
    pub retry_enabled: bool,
    /// ALPN; empty is none.
    pub application_protocol: Vec<u8>,
    /// A server needs one.
    pub identity: Option<TlsIdentity>,
    /// QUIC's settings.
    pub transport: TransportConfig,
    /// The largest datagram sent unless path MTU discovery finds more.
    pub max_outbound_datagram_size: usize,
    /// Early data.
    pub zero_rtt: ZeroRttConfig,
    /// No effect: received data is always shared, not copied.
    pub emit_shared_receive_stream_data: bool,
    /// Not supported.
    pub enable_packet_inspection: bool,
    /// As a server: follow clients whose address changes.
    pub allow_peer_address_change: bool,
    /// As a server: so many connections; 0 is as many as come. Beyond the original's Rust.
    pub max_server_connections: usize,
    /// Hand over stream data as it comes instead of in its order.
    pub enable_out_of_order_receive: bool,
    /// No effect.
    pub orphan_zero_rtt_buffer: OrphanZeroRttBufferConfig,
    /// Not supported.
    pub enable_reserved_version_probe: bool,
    /// Not supported.
    pub enable_long_header_stateless_reset: bool,
    /// No effect. Beyond the original's Rust.
    pub enable_minimal_closing_state_retention: bool,
    /// What is done with a handshake after a Retry that does not fit it.
    pub retry_handshake_validation_policy: RetryHandshakeValidationPolicy,
    /// Who is trusted to sign certificates; without it, who the system trusts. Beyond the original.
    pub trusted_certificates_pem: Option<Vec<u8>>,
    /// Makes what the engine draws repeatable, for tests; TLS draws on its own. Beyond the original.
    pub random_seed: Option<[u8; 32]>,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            role: Role::Client,
            supported_versions: Vec::new(),
            verify_peer: true,
            retry_enabled: false,
            application_protocol: b"coquic".to_vec(),
            identity: None,
            transport: TransportConfig::default(),
            max_outbound_datagram_size: 1200,
            zero_rtt: ZeroRttConfig::default(),
            emit_shared_receive_stream_data: false,
            enable_packet_inspection: false,
            allow_peer_address_change: true,
            max_server_connections: 0,
            enable_out_of_order_receive: false,
            orphan_zero_rtt_buffer: OrphanZeroRttBufferConfig::default(),
            enable_reserved_version_probe: false,
            enable_long_header_stateless_reset: false,
            enable_minimal_closing_state_retention: false,
            retry_handshake_validation_policy: RetryHandshakeValidationPolicy::Disabled,
            trusted_certificates_pem: None,
            random_seed: None,
        }
    }
}

impl EndpointConfig {
    /// For a client of HTTP/3.
    pub fn http3_client() -> Self {
        Self { application_protocol: b"h3".to_vec(), ..Self::default() }
    }

    /// For a server of HTTP/3.
    pub fn http3_server() -> Self {
        Self { role: Role::Server, verify_peer: false, ..Self::http3_client() }
    }
}

/// A session to resume, from [`Effect::ResumptionStateAvailable`](crate::Effect::ResumptionStateAvailable) of the same
/// endpoint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ResumptionState {
    /// Names the session.
    pub serialized: Vec<u8>,
}

/// A connection to be opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientConnectionConfig {
    /// What the peer shall call this connection: up to 20 bytes, as many for every connection of the endpoint, and not 4 where pointers have
    /// 32 bits.
    pub source_connection_id: Vec<u8>,
    /// How long the name is by which the first packet calls the peer: 8 to 20 bytes; empty is 8. The bytes are drawn (RFC 9000, section 7.2),
    /// but for endpoints with a `random_seed`, which take these.
    pub initial_destination_connection_id: Vec<u8>,
    /// Not supported: Retry is answered inside.
    pub original_destination_connection_id: Option<Vec<u8>>,
    /// Not supported: Retry is answered inside.
    pub retry_source_connection_id: Option<Vec<u8>>,
    /// From [`Effect::NewTokenAvailable`](crate::Effect::NewTokenAvailable).
    pub retry_token: Vec<u8>,
    /// 1.
    pub original_version: u32,
    /// 1.
    pub initial_version: u32,
    /// Not supported: there is one version.
    pub reacted_to_version_negotiation: bool,
    /// The server's name or IP address.
    pub server_name: Vec<u8>,
    /// A session to resume.
    pub resumption_state: Option<ResumptionState>,
    /// Early data.
    pub zero_rtt: ZeroRttConfig,
}

impl Default for ClientConnectionConfig {
    fn default() -> Self {
        Self {
            source_connection_id: Vec::new(),
            initial_destination_connection_id: Vec::new(),
            original_destination_connection_id: None,
            retry_source_connection_id: None,
            retry_token: Vec::new(),
            original_version: 1,
            initial_version: 1,
            reacted_to_version_negotiation: false,
            server_name: b"localhost".to_vec(),
            resumption_state: None,
            zero_rtt: ZeroRttConfig::default(),
        }
    }
}

/// A connection to be opened, and which way.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenConnection {
    /// The connection.
    pub connection: ClientConnectionConfig,
    /// The path to the server.
    pub initial_route_handle: RouteHandle,
    /// No effect: a client does not judge addresses.
    pub address_validation_identity: Vec<u8>,
}

/// A received datagram.
#[derive(Clone, Copy, Debug, Default)]
pub struct InboundDatagram<'a> {
    /// The UDP payload.
    pub bytes: &'a [u8],
    /// The path it came.
    pub route_handle: Option<RouteHandle>,
    /// What stands for the sender's address in tokens: the same bytes for the same address. Empty: the route does.
    pub address_validation_identity: &'a [u8],
    /// Its mark.
    pub ecn: EcnCodepoint,
}

impl<'a> InboundDatagram<'a> {
    /// One of which nothing but the content is known.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, ..Self::default() }
    }
}

/// A router said that datagrams were too large.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PathMtuUpdate {
    /// The path; without it, every path.
    pub route_handle: Option<RouteHandle>,
    /// What it takes; below 1200 it is ignored.
    pub max_udp_payload_size: usize,
    /// The beginning of the packet it is about. No effect: whether the report is to be believed is the caller's decision.
    pub quoted_packet: Vec<u8>,
}

/// Data for a stream, which is opened by its first data.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendStreamData<'a> {
    /// The stream.
    pub stream_id: StreamId,
    /// The data, all of which is taken.
    pub bytes: &'a [u8],
    /// Nothing comes after it.
    pub fin: bool,
    /// Higher goes first.
    pub priority: i32,
}

/// A datagram, which may get lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendDatagramData<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// No effect: they go in the order given.
    pub priority: i32,
}

/// A stream's sending side to be abandoned.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ResetStream {
    /// The stream.
    pub stream_id: StreamId,
    /// Why.
    pub application_error_code: u64,
}

/// A stream of which nothing more is wanted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StopSending {
    /// The stream.
    pub stream_id: StreamId,
    /// Why.
    pub application_error_code: u64,
}

/// A connection to be ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloseConnection<'a> {
    /// Why.
    pub application_error_code: u64,
    /// Why, for people.
    pub reason_phrase: &'a [u8],
}

/// A connection to go another way.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestConnectionMigration<'a> {
    /// The way.
    pub route_handle: RouteHandle,
    /// Why.
    pub reason: MigrationReason,
    /// No effect: a client does not judge addresses.
    pub address_validation_identity: &'a [u8],
}

/// A command for a connection.
#[derive(Clone, Copy, Debug)]
pub enum ConnectionInput<'a> {
    /// Data for a stream.
    SendStream(SendStreamData<'a>),
    /// A datagram.
    SendDatagram(SendDatagramData<'a>),
    /// Abandon a stream's sending side.
    ResetStream(ResetStream),
    /// Tell the peer that nothing more is wanted.
    StopSending(StopSending),
    /// End the connection.
    Close(CloseConnection<'a>),
    /// Use new keys.
    RequestKeyUpdate,
    /// Go another way.
    RequestMigration(RequestConnectionMigration<'a>),
}

/// A command that was refused; nothing has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalError {
    /// The connection it was for.
    pub connection: Option<ConnectionHandle>,
    /// Why.
    pub code: LocalErrorCode,
    /// The stream it was for.
    pub stream_id: Option<StreamId>,
}
