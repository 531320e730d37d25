//! The same commands by the names of coquic's facade for C.

use crate::effect::QueryResult;
use crate::endpoint::Endpoint;
use crate::types::*;

impl Endpoint {
    /// See [`Endpoint::input_datagram`].
    pub fn quic_receive_datagram(
        &mut self,
        input: InboundDatagram<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.input_datagram(input, now)
    }

    /// See [`Endpoint::update_path_mtu`].
    pub fn quic_update_path_mtu(
        &mut self,
        input: &PathMtuUpdate,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.update_path_mtu(input, now)
    }

    /// See [`Endpoint::timer_expired`].
    pub fn quic_timer_expired(&mut self, now: TimeUs) -> Result<QueryResult, Status> {
        self.timer_expired(now)
    }

    /// See [`Endpoint::connection_send_stream`].
    pub fn quic_connection_send_stream(
        &mut self,
        connection: ConnectionHandle,
        input: SendStreamData<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.connection_send_stream(connection, input, now)
    }

    /// See [`Endpoint::connection_send_datagram`].
    pub fn quic_connection_send_datagram(
        &mut self,
        connection: ConnectionHandle,
        input: SendDatagramData<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.connection_send_datagram(connection, input, now)
    }

    /// See [`Endpoint::connection_reset_stream`].
    pub fn quic_connection_reset_stream(
        &mut self,
        connection: ConnectionHandle,
        input: &ResetStream,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.connection_reset_stream(connection, input, now)
    }

    /// See [`Endpoint::connection_stop_sending`].
    pub fn quic_connection_stop_sending(
        &mut self,
        connection: ConnectionHandle,
        input: &StopSending,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.connection_stop_sending(connection, input, now)
    }

    /// See [`Endpoint::connection_close`].
    pub fn quic_connection_close(
        &mut self,
        connection: ConnectionHandle,
        input: CloseConnection<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.connection_close(connection, input, now)
    }

    /// See [`Endpoint::connection_request_key_update`].
    pub fn quic_connection_request_key_update(
        &mut self,
        connection: ConnectionHandle,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.connection_request_key_update(connection, now)
    }

    /// See [`Endpoint::connection_advance`].
    pub fn quic_connection_advance(
        &mut self,
        connection: ConnectionHandle,
        input: ConnectionInput<'_>,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.connection_advance(connection, input, now)
    }

    /// See [`Endpoint::connection_send_stream`].
    pub fn quic_stream_send(
        &mut self,
        connection: ConnectionHandle,
        stream_id: StreamId,
        data: &[u8],
        fin: bool,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        let input = SendStreamData { stream_id, bytes: data, fin, priority: 0 };
        self.connection_send_stream(connection, input, now)
    }

    /// Says that nothing comes after what was sent.
    pub fn quic_stream_finish(
        &mut self,
        connection: ConnectionHandle,
        stream_id: StreamId,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.quic_stream_send(connection, stream_id, &[], true, now)
    }

    /// See [`Endpoint::connection_reset_stream`].
    pub fn quic_stream_reset(
        &mut self,
        connection: ConnectionHandle,
        stream_id: StreamId,
        application_error_code: u64,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.connection_reset_stream(connection, &ResetStream { stream_id, application_error_code }, now)
    }

    /// See [`Endpoint::connection_stop_sending`].
    pub fn quic_stream_stop_sending(
        &mut self,
        connection: ConnectionHandle,
        stream_id: StreamId,
        application_error_code: u64,
        now: TimeUs,
    ) -> Result<QueryResult, Status> {
        self.connection_stop_sending(connection, &StopSending { stream_id, application_error_code }, now)
    }
}
