//! The password: OPAQUE's client half, and what is sealed under the key only the password gives.

use crate::error::Error;
use opaque_ke::argon2::{Algorithm, Argon2, Params, Version};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialResponse, Identifiers, RegistrationResponse, Ristretto255,
    TripleDh,
};
use qpc_proto::id::UserName;
use qpc_proto::limits::{MAX_OPAQUE, MAX_SEALED};
use qpc_proto::message::KsfProfile;
use qpc_proto::signing::{self, Exporter};
use qpc_proto::wire::Blob;
use rand_core::OsRng;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// A password, wiped from memory when dropped.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password; an empty one is refused.
    pub fn new(password: &str) -> Result<Self, Error> {
        if password.is_empty() {
            return Err(Error::EmptyPassword);
        }
        Ok(Self(Zeroizing::new(password.to_owned())))
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// OPAQUE as this protocol uses it.
struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2::Sha512>;
    type Ksf = Argon2<'static>;
}

/// A registration between its two halves.
pub(crate) struct Registering(ClientRegistration<Suite>);

impl Registering {
    pub(crate) fn start(password: &Password) -> Result<(Self, Blob<MAX_OPAQUE>), Error> {
        let started =
            ClientRegistration::start(&mut OsRng, password.0.as_bytes()).map_err(|_| Error::Protocol)?;
        Ok((Self(started.state), blob(&started.message.serialize())?))
    }

    /// The record for the relay, and the key that only the password gives.
    pub(crate) fn finish(
        self,
        user: &UserName,
        password: &Password,
        response: &[u8],
        ksf: KsfProfile,
    ) -> Result<(Blob<MAX_OPAQUE>, ExportKey), Error> {
        let response = RegistrationResponse::deserialize(response).map_err(|_| Error::Protocol)?;
        let ksf = stretcher(ksf)?;
        let parameters = ClientRegistrationFinishParameters::new(identifiers(user), Some(&ksf));
        let finished = self
            .0
            .finish(&mut OsRng, password.0.as_bytes(), response, parameters)
            .map_err(|_| Error::Protocol)?;
        Ok((blob(&finished.message.serialize())?, ExportKey::new(&finished.export_key)))
    }
}

/// A login between its two halves.
pub(crate) struct LoggingIn(ClientLogin<Suite>);

impl LoggingIn {
    pub(crate) fn start(password: &Password) -> Result<(Self, Blob<MAX_OPAQUE>), Error> {
        let started = ClientLogin::start(&mut OsRng, password.0.as_bytes()).map_err(|_| Error::Protocol)?;
        Ok((Self(started.state), blob(&started.message.serialize())?))
    }

    pub(crate) fn finish(
        self,
        user: &UserName,
        password: &Password,
        response: &[u8],
        ksf: KsfProfile,
        exporter: &Exporter,
    ) -> Result<(Blob<MAX_OPAQUE>, ExportKey), Error> {
        let response = CredentialResponse::deserialize(response).map_err(|_| Error::Protocol)?;
        let context = signing::opaque_context(exporter, ksf.into());
        let stretcher = stretcher(ksf)?;
        let parameters =
            ClientLoginFinishParameters::new(Some(&context), identifiers(user), Some(&stretcher));
        // The only thing that can fail with an answer of the right form is the password.
        let finished = self
            .0
            .finish(&mut OsRng, password.0.as_bytes(), response, parameters)
            .map_err(|_| Error::AuthFailed)?;
        Ok((blob(&finished.message.serialize())?, ExportKey::new(&finished.export_key)))
    }
}

/// OPAQUE's export key: known to whoever knows the password and has asked the relay, and to nobody else.
pub(crate) struct ExportKey(hkdf::Prk);

impl ExportKey {
    fn new(bytes: &[u8]) -> Self {
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, EXPORT_KEY).extract(bytes))
    }

    /// The key for one purpose.
    pub(crate) fn key(&self, purpose: &'static [u8]) -> Result<SlotKey, Error> {
        let parts = [purpose];
        let okm = self.0.expand(&parts, &CHACHA20_POLY1305).map_err(|_| Error::Protocol)?;
        Ok(SlotKey { key: LessSafeKey::new(UnboundKey::from(okm)), purpose })
    }
}

/// Seals secrets of 32 bytes for one purpose.
pub(crate) struct SlotKey {
    key: LessSafeKey,
    purpose: &'static [u8],
}

impl SlotKey {
    pub(crate) fn new(key: &[u8; 32], purpose: &'static [u8]) -> Result<Self, Error> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| Error::Protocol)?;
        Ok(Self { key: LessSafeKey::new(key), purpose })
    }

    /// Nonce, ciphertext and tag. `owner` ties them to a user or a device.
    pub(crate) fn seal(&self, owner: &[u8], secret: &[u8; 32]) -> Result<Blob<MAX_SEALED>, Error> {
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), self.aad(owner), &mut sealed)
            .map_err(|_| Error::Protocol)?;
        blob(&[&nonce[..], &sealed].concat())
    }

    pub(crate) fn open(&self, owner: &[u8], sealed: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let secret = self.key.open_in_place(nonce, self.aad(owner), &mut sealed).ok()?;
        Some(Zeroizing::new(<[u8; 32]>::try_from(&*secret).ok()?))
    }

    fn aad(&self, owner: &[u8]) -> Aad<Vec<u8>> {
        Aad::from([self.purpose, &[0], owner].concat())
    }
}

/// What the identity key's secret half is sealed for.
pub(crate) const IDENTITY: &[u8] = b"qpc/1 identity";
/// What a device's state key is sealed for.
pub(crate) const STATE_KEY: &[u8] = b"qpc/1 state key";
/// What a state key is sealed for under a key file.
pub(crate) const KEY_FILE: &[u8] = b"qpc/1 key file";
/// Salt of the extraction from OPAQUE's export key.
const EXPORT_KEY: &[u8] = b"qpc/1 export key";

pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| crate::mls::RandomnessError)
        .map_err(crate::engine::EngineError::from)?;
    Ok(bytes)
}

fn identifiers(user: &UserName) -> Identifiers<'_> {
    Identifiers { client: Some(user.as_str().as_bytes()), server: Some(signing::OPAQUE_SERVER) }
}

fn stretcher(ksf: KsfProfile) -> Result<Argon2<'static>, Error> {
    let (kib, passes) = match ksf {
        KsfProfile::Standard => (19 * 1024, 2),
        KsfProfile::Router => (7 * 1024, 5),
        KsfProfile::Unknown(_) => return Err(Error::Protocol),
    };
    let params = Params::new(kib, passes, 1, None).map_err(|_| Error::Protocol)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn blob<const MAX: usize>(bytes: &[u8]) -> Result<Blob<MAX>, Error> {
    Blob::new(bytes.to_vec()).map_err(|_| Error::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opaque_ke::{
        CredentialFinalization, CredentialRequest, RegistrationRequest, RegistrationUpload, ServerLogin,
        ServerLoginParameters, ServerRegistration, ServerSetup,
    };
    use ring::hmac;

    /// A relay written from docs/protocol.md. It never stretches anything.
    struct Relay {
        setup: ServerSetup<RelaySuite>,
        record: Option<ServerRegistration<RelaySuite>>,
    }

    struct RelaySuite;

    impl CipherSuite for RelaySuite {
        type OprfCs = Ristretto255;
        type KeyExchange = TripleDh<Ristretto255, sha2::Sha512>;
        type Ksf = opaque_ke::ksf::Identity;
    }

    const ALICE: &str = "alice";

    impl Relay {
        /// With an account whose password is "right".
        fn with_account(ksf: KsfProfile) -> (Self, ExportKey) {
            let setup = ServerSetup::new(&mut OsRng);
            let (user, password) = (UserName::new(ALICE).unwrap(), Password::new("right").unwrap());
            let (registering, request) = Registering::start(&password).unwrap();
            let request = RegistrationRequest::deserialize(&request).unwrap();
            let response =
                ServerRegistration::<RelaySuite>::start(&setup, request, ALICE.as_bytes()).unwrap();
            let (record, export) =
                registering.finish(&user, &password, &response.message.serialize(), ksf).unwrap();
            let record = ServerRegistration::finish(RegistrationUpload::deserialize(&record).unwrap());
            (Self { setup, record: Some(record) }, export)
        }

        /// A login whose two ends see these TLS exporters and this profile; whether the relay lets it in, too.
        fn login(
            &self,
            password: &str,
            ksf: KsfProfile,
            [here, there]: [Exporter; 2],
        ) -> Result<ExportKey, Error> {
            let (user, password) = (UserName::new(ALICE).unwrap(), Password::new(password).unwrap());
            let (logging_in, request) = LoggingIn::start(&password)?;
            let context = [b"qpc/1 opaque\0", &there[..], &u32::from(ksf).to_be_bytes()].concat();
            let parameters = || ServerLoginParameters {
                context: Some(&context),
                identifiers: Identifiers { client: Some(ALICE.as_bytes()), server: Some(b"qpc-relay") },
            };
            let request = CredentialRequest::deserialize(&request).unwrap();
            let record = self.record.clone();
            let started =
                ServerLogin::start(&mut OsRng, &self.setup, record, request, ALICE.as_bytes(), parameters())
                    .unwrap();
            let response = started.message.serialize();
            let (finalization, export) = logging_in.finish(&user, &password, &response, ksf, &here)?;
            let finalization = CredentialFinalization::deserialize(&finalization).unwrap();
            started.state.finish(finalization, parameters()).unwrap();
            Ok(export)
        }
    }

    #[test]
    fn a_login_gives_the_key_of_the_registration() {
        for ksf in [KsfProfile::Router, KsfProfile::Standard] {
            let (relay, registered) = Relay::with_account(ksf);
            let sealed = registered.key(IDENTITY).unwrap().seal(b"alice", &[9; 32]).unwrap();
            let export = relay.login("right", ksf, [[1; 32]; 2]).unwrap();
            assert_eq!(*export.key(IDENTITY).unwrap().open(b"alice", &sealed).unwrap(), [9; 32]);
            assert!(export.key(STATE_KEY).unwrap().open(b"alice", &sealed).is_none());
        }
    }

    #[test]
    fn whatever_does_not_fit_is_a_failed_login() {
        let (mut relay, _) = Relay::with_account(KsfProfile::Router);
        let failed = |result: Result<ExportKey, Error>| matches!(result, Err(Error::AuthFailed));
        assert!(failed(relay.login("wrong", KsfProfile::Router, [[1; 32]; 2])));
        // Somebody in between has another connection to each side.
        assert!(failed(relay.login("right", KsfProfile::Router, [[1; 32], [2; 32]])));
        assert!(failed(relay.login("right", KsfProfile::Standard, [[1; 32]; 2])));
        relay.record = None;
        assert!(failed(relay.login("right", KsfProfile::Router, [[1; 32]; 2])));
    }

    #[test]
    fn nonsense_from_the_relay_is_not_a_wrong_password() {
        let (user, password) = (UserName::new(ALICE).unwrap(), Password::new("right").unwrap());
        for response in [&[][..], &[0; 320], &[0xff; 320], &[7; 512]] {
            let (logging_in, _) = LoggingIn::start(&password).unwrap();
            let finished = logging_in.finish(&user, &password, response, KsfProfile::Router, &[1; 32]);
            assert!(matches!(finished, Err(Error::Protocol)));
            let (registering, _) = Registering::start(&password).unwrap();
            let finished = registering.finish(&user, &password, response, KsfProfile::Router);
            assert!(matches!(finished, Err(Error::Protocol)));
        }
        let (relay, _) = Relay::with_account(KsfProfile::Router);
        let unknown = relay.login("right", KsfProfile::Unknown(9), [[1; 32]; 2]);
        assert!(matches!(unknown, Err(Error::Protocol)));
    }

    /// As docs/protocol.md says it, from HMAC up.
    #[test]
    fn secrets_are_sealed_as_documented() {
        let export = [5; 64];
        let sealed = ExportKey::new(&export).key(IDENTITY).unwrap().seal(b"alice", &[9; 32]).unwrap();
        let mac = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let extracted = mac(b"qpc/1 export key", &export);
        let key = mac(extracted.as_ref(), b"qpc/1 identity\x01");
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).unwrap());
        let (nonce, rest) = sealed.split_at(NONCE_LEN);
        let (nonce, mut rest) = (Nonce::try_assume_unique_for_key(nonce).unwrap(), rest.to_vec());
        let secret = key.open_in_place(nonce, Aad::from(b"qpc/1 identity\0alice"), &mut rest).unwrap();
        assert_eq!(*secret, [9; 32]);
    }

    #[test]
    fn a_slot_opens_for_its_owner_only() {
        let key = SlotKey::new(&[7; 32], KEY_FILE).unwrap();
        let sealed = key.seal(b"alice", &[9; 32]).unwrap();
        assert_eq!(*key.open(b"alice", &sealed).unwrap(), [9; 32]);
        assert!(key.open(b"bob", &sealed).is_none());
        assert!(SlotKey::new(&[8; 32], KEY_FILE).unwrap().open(b"alice", &sealed).is_none());
        assert!(SlotKey::new(&[7; 32], STATE_KEY).unwrap().open(b"alice", &sealed).is_none());
        assert!(key.open(b"alice", &sealed[..20]).is_none());
    }

    #[test]
    fn no_password_is_no_password() {
        assert!(matches!(Password::new(""), Err(Error::EmptyPassword)));
    }
}
