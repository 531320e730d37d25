//! Every bound of the relay in one file, each with its unit and its reason. What the wire promises is bounded by
//! [`qpc_proto::limits`]; here is what this relay chooses.

use std::sync::Arc;
use std::time::Duration;

/// Bounds of the service. None of them is seen on the wire, so they may change with any version.
#[derive(Clone, Debug)]
pub struct ServiceBounds {
    /// Seconds of age a key package stays leased. Long enough to make and submit a commit on a slow router, short
    /// enough that a crashed client burns few packages.
    pub lease_seconds: u64,
    /// Time between two new generations that clients' claims bring about: a lying client must not make everybody
    /// resynchronise over and over.
    pub generation_interval: Duration,
    /// Seconds of age after which the relay's age is written again, in a batch that is written anyway: what a power
    /// cut takes from every age.
    pub age_interval: u64,
    /// Seconds of age after which a device's last session is recorded again: one write a day for a device that
    /// reconnects all day.
    pub seen_interval: u64,
    /// Time between the beginnings of two sweeps over all devices for what has expired.
    pub sweep_interval: Duration,
    /// Devices looked at in one tick of a sweep, so that a tick stays short.
    pub sweep_devices: usize,
    /// Below so many one-time key packages a device is told to upload more.
    pub low_key_packages: u64,
    /// Conversations of one account: bounds the work of listing and of revoking a device.
    pub max_conversations: usize,
    /// Bytes of one group's ratchet tree, so that it fits into one bulk frame beside the GroupInfo.
    pub max_tree: usize,
    /// How many times over its quota a queue may grow for commits and Welcomes. Behind that a device is dropped from
    /// the group's fan-out instead of blocking the group.
    pub handshake_reserve: u64,
    /// Bytes over the byte budget that commits and Welcomes may use.
    pub budget_reserve: u64,
    /// Failed logins of one user name.
    pub login_by_user: Bucket,
    /// Failed logins, device proofs and registrations from one address (IPv6: one /64).
    pub login_by_peer: Bucket,
    /// OPAQUE exchanges of everybody together, of 25 to 30 million instructions or 50 to 80 ms each on a 580 MHz router.
    pub login_global: Bucket,
    /// Fetches of key packages by one device.
    pub fetch_by_device: Bucket,
    /// Conversations made by one account.
    pub create_by_account: Bucket,
    /// Keys a rate limit remembers, about 100 bytes each; the one with the fullest bucket is forgotten first.
    pub limited_keys: usize,
}

/// Whether this is a machine like a router.
const SMALL: bool = cfg!(target_pointer_width = "32");

/// A token bucket: `burst` at once, then one every `every`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bucket {
    /// Tokens in a full bucket.
    pub burst: u32,
    /// Time in which one token comes back.
    pub every: Duration,
}

impl Default for ServiceBounds {
    fn default() -> Self {
        Self {
            lease_seconds: 10 * 60,
            generation_interval: Duration::from_secs(10 * 60),
            age_interval: 60 * 60,
            seen_interval: 24 * 60 * 60,
            sweep_interval: Duration::from_secs(60 * 60),
            sweep_devices: 32,
            low_key_packages: 4,
            max_conversations: 1024,
            max_tree: 960 * 1024,
            handshake_reserve: 4,
            budget_reserve: 1024 * 1024,
            login_by_user: Bucket { burst: 10, every: Duration::from_secs(30) },
            login_by_peer: Bucket { burst: 20, every: Duration::from_secs(6) },
            login_global: Bucket { burst: 20, every: Duration::from_millis(if SMALL { 200 } else { 5 }) },
            fetch_by_device: Bucket { burst: 60, every: Duration::from_secs(5) },
            create_by_account: Bucket { burst: 100, every: Duration::from_secs(5) },
            limited_keys: 512,
        }
    }
}

/// Bounds of the network side. `quinn_proto`'s own defaults are made for servers with gigabytes.
#[derive(Clone, Debug)]
pub struct NetBounds {
    /// Time for a handshake, then for hello and login: whoever only opens connections does not keep them.
    pub handshake_time: Duration,
    /// Time from the handshake to a session or a login.
    pub login_time: Duration,
    /// Time after which a silent connection is dropped. Clients send keep-alives every 25 s.
    pub idle_time: Duration,
    /// Handshakes under way. Each holds about 20 KB.
    pub half_open: usize,
    /// Of these, so many before addresses must be proved by Retry: a flood with forged senders then costs nobody memory.
    pub half_open_unproved: usize,
    /// Handshakes of everybody together: 12 million instructions each.
    pub handshakes: Bucket,
    /// First packets held until they are accepted or refused, and their bytes, each and in all.
    pub incoming: usize,
    /// Bytes of one of these.
    pub incoming_bytes: u64,
    /// Bytes of all of these.
    pub incoming_bytes_total: u64,
    /// Bytes a peer may send on one stream before they are read.
    pub stream_window: u32,
    /// Bytes a peer may send on all its streams before they are read.
    pub receive_window: u32,
    /// Bytes kept for one peer until it has confirmed them.
    pub send_window: u64,
    /// Bytes of handshake data out of order.
    pub crypto_buffer: usize,
    /// Bytes of the largest packet that is taken: Ethernet's, less IPv6 and UDP headers. Those sent have 1,200, which every
    /// path takes.
    pub mtu: u16,
    /// Bulk requests read or answered at a time, of all connections together; each holds up to
    /// [`qpc_proto::limits::MAX_BULK_FRAME`] twice.
    pub bulk_requests: usize,
}

impl Default for NetBounds {
    fn default() -> Self {
        Self {
            handshake_time: Duration::from_secs(10),
            login_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(120),
            half_open: 64,
            half_open_unproved: 16,
            handshakes: Bucket { burst: 64, every: Duration::from_millis(20) },
            incoming: 64,
            incoming_bytes: 16 * 1024,
            incoming_bytes_total: 256 * 1024,
            stream_window: 128 * 1024,
            receive_window: 256 * 1024,
            send_window: 256 * 1024,
            crypto_buffer: 16 * 1024,
            mtu: 1452,
            bulk_requests: 4,
        }
    }
}

impl NetBounds {
    /// What `quinn_proto` is told of each connection.
    pub fn transport(&self) -> quinn_proto::TransportConfig {
        use qpc_proto::limits::MAX_BULK_STREAMS;
        let idle_ms = u32::try_from(self.idle_time.as_millis()).unwrap_or(u32::MAX);
        // Messages are small and their answers come soon: an acknowledgement of its own for every other packet would be a
        // third of all packets.
        let mut acknowledgements = quinn_proto::AckFrequencyConfig::default();
        acknowledgements.ack_eliciting_threshold(10u32.into()).max_ack_delay(Some(Duration::from_millis(25)));
        let mut transport = quinn_proto::TransportConfig::default();
        transport
            .ack_frequency_config(Some(acknowledgements))
            // Cubic calculates with floating-point numbers, which routers have no instructions for.
            .congestion_controller_factory(Arc::new(quinn_proto::congestion::NewRenoConfig::default()))
            .max_concurrent_bidi_streams((1 + MAX_BULK_STREAMS).into())
            .max_concurrent_uni_streams(0u32.into())
            .stream_receive_window(self.stream_window.into())
            .receive_window(self.receive_window.into())
            .send_window(self.send_window)
            .crypto_buffer_size(self.crypto_buffer)
            .datagram_receive_buffer_size(None)
            .datagram_send_buffer_size(0)
            .max_idle_timeout(Some(quinn_proto::VarInt::from_u32(idle_ms).into()))
            // Each probe for larger packets costs as much as a message, and a whole conversation is a few packets.
            .mtu_discovery_config(None);
        transport
    }
}
