//! Who a leaf is: the keys of accounts and devices, and the certificate that ties one to the other.
//!
//! An account has an Ed25519 identity key, each of its devices a device key that is both what opens its sessions at the
//! relay and the signature key of its MLS leaves. The content of a leaf's basic credential is a [`DeviceCertificate`],
//! signed by the identity key. The relay takes no part in this.

use openmls::credentials::{BasicCredential, Credential, CredentialType, CredentialWithKey};
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;
use qpc_curve::{LENGTH, SigningKey};
use qpc_proto::id::{DeviceId, PublicKey, UserName};
use qpc_proto::message::{DeviceCertificate, Signature};
use qpc_proto::signing;
use qpc_proto::wire::Message;
use ring::digest;
use thiserror::Error;
use zeroize::Zeroizing;

use super::crypto::{Entropy, RandomnessError};

/// The secret of an account's identity key.
pub struct IdentitySecret(SigningKey);

impl IdentitySecret {
    /// A new identity.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, RandomnessError> {
        generate(entropy).map(Self)
    }

    /// The identity with these secret bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_seed(bytes))
    }

    /// The secret bytes, for sealing.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.seed()
    }

    /// The identity key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public())
    }

    /// A signature by the identity key.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message)
    }

    /// The statement that the device with `device_key` is the account's.
    pub fn certify(&self, user: &UserName, device_key: &PublicKey) -> DeviceCertificate {
        DeviceCertificate {
            user: user.clone(),
            identity_key: self.public(),
            device_key: *device_key,
            signature: self.sign(&signing::device_certificate(user, device_key)),
        }
    }
}

/// The secrets of a device.
pub struct DeviceSecret(SigningKey);

impl DeviceSecret {
    /// A new device.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, RandomnessError> {
        generate(entropy).map(Self)
    }

    /// The device key.
    pub fn device_key(&self) -> PublicKey {
        PublicKey(self.0.public())
    }

    /// The statement that this device belongs to the account.
    pub fn certify(&self, user: &UserName, identity: &IdentitySecret) -> DeviceCertificate {
        identity.certify(user, &self.device_key())
    }

    /// The device's proof that it opens this connection's session.
    pub fn prove_session(&self, exporter: &signing::Exporter) -> Signature {
        self.0.sign(&signing::session(exporter, &self.device_key()))
    }

    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_seed(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.seed()
    }
}

impl Signer for DeviceSecret {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// The id of the device with `device_key`.
pub fn device_id(device_key: &PublicKey) -> DeviceId {
    let hash = digest::digest(&digest::SHA256, &signing::device_id(device_key));
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_ref()[..16]);
    DeviceId(id)
}

/// The credential a device's leaves carry.
pub(crate) fn credential(certificate: &DeviceCertificate) -> CredentialWithKey {
    CredentialWithKey {
        credential: BasicCredential::new(certificate.encode()).into(),
        signature_key: certificate.device_key.0.as_slice().into(),
    }
}

/// The certificate in the credential of a leaf with `signature_key`, if it is genuine.
pub(crate) fn verify(
    credential: &Credential,
    signature_key: &[u8],
) -> Result<DeviceCertificate, CredentialError> {
    if credential.credential_type() != CredentialType::Basic {
        return Err(CredentialError::Type);
    }
    let certificate =
        DeviceCertificate::decode(credential.serialized_content()).map_err(|_| CredentialError::Malformed)?;
    // One certificate has one encoding, so that leaves of a device can be compared by their credential.
    if certificate.encode() != credential.serialized_content() {
        return Err(CredentialError::Malformed);
    }
    if certificate.device_key.0 != signature_key {
        return Err(CredentialError::OtherKey);
    }
    let signed = signing::device_certificate(&certificate.user, &certificate.device_key);
    match qpc_curve::verify(&certificate.identity_key.0, &signed, &certificate.signature) {
        true => Ok(certificate),
        false => Err(CredentialError::Signature),
    }
}

/// Why a leaf is not who it says it is.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CredentialError {
    /// The credential holds no certificate, or one in an encoding that is not ours.
    #[error("a credential holds no device certificate")]
    Malformed,
    /// The certificate is another device's.
    #[error("a device certificate is for another key than its leaf's")]
    OtherKey,
    /// The identity key did not sign the certificate.
    #[error("a device certificate is not signed by its account")]
    Signature,
    /// The credential is of another type than basic.
    #[error("a credential has a type that is not used here")]
    Type,
}

fn generate(entropy: &dyn Entropy) -> Result<SigningKey, RandomnessError> {
    let mut seed = Zeroizing::new([0; LENGTH]);
    entropy.fill(&mut *seed)?;
    Ok(SigningKey::from_seed(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mls::SystemEntropy;

    #[test]
    fn only_genuine_certificates_verify() {
        let entropy = SystemEntropy::new();
        let identity = IdentitySecret::generate(&entropy).unwrap();
        let device = DeviceSecret::generate(&entropy).unwrap();
        let user = UserName::new("alice").unwrap();
        let certificate = device.certify(&user, &identity);
        let signed = credential(&certificate);
        let verify_as = |certificate: &DeviceCertificate| {
            verify(&credential(certificate).credential, signed.signature_key.as_slice())
        };
        assert_eq!(verify_as(&certificate), Ok(certificate.clone()));

        let renamed = DeviceCertificate { user: UserName::new("bob").unwrap(), ..certificate.clone() };
        assert_eq!(verify_as(&renamed), Err(CredentialError::Signature));
        let other = DeviceSecret::generate(&entropy).unwrap().certify(&user, &identity);
        assert_eq!(verify_as(&other), Err(CredentialError::OtherKey));
        let forged = IdentitySecret::generate(&entropy).unwrap().certify(&user, &device.device_key());
        let forged = DeviceCertificate { identity_key: identity.public(), ..forged };
        assert_eq!(verify_as(&forged), Err(CredentialError::Signature));

        let garbage = BasicCredential::new(b"alice".to_vec()).into();
        assert_eq!(verify(&garbage, &certificate.device_key.0), Err(CredentialError::Malformed));
        let longer = [certificate.encode(), vec![15 << 3, 0]].concat();
        let longer = BasicCredential::new(longer).into();
        assert_eq!(verify(&longer, &certificate.device_key.0), Err(CredentialError::Malformed));
    }

    #[test]
    fn keys_survive_sealing() {
        let identity = IdentitySecret::generate(&SystemEntropy::new()).unwrap();
        let again = IdentitySecret::from_bytes(identity.as_bytes());
        assert_eq!(again.public(), identity.public());
        let device = DeviceSecret::generate(&SystemEntropy::new()).unwrap();
        let again = DeviceSecret::from_bytes(device.as_bytes());
        assert_eq!(device_id(&again.device_key()), device_id(&device.device_key()));
    }
}
