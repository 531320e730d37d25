//! The safety number: what two people compare to know that nobody stands between them.

use qpc_proto::id::{PublicKey, UserName};
use ring::digest::{SHA512, digest};
use std::fmt::Write;

/// The number of two accounts, the same whichever is named first: 12 groups of 5 digits. `docs/protocol.md` says how it
/// is made.
pub(crate) fn safety_number(one: (&UserName, &PublicKey), other: (&UserName, &PublicKey)) -> String {
    let (first, second) = if one.0 < other.0 { (one, other) } else { (other, one) };
    let mut text = LABEL.to_vec();
    for (user, identity) in [first, second] {
        // A user name has at most 64 bytes.
        text.push(user.as_str().len() as u8);
        text.extend_from_slice(user.as_str().as_bytes());
        text.extend_from_slice(&identity.0);
    }
    let mut number = String::new();
    for group in digest(&SHA512, &text).as_ref().chunks_exact(5).take(12) {
        let group = group.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)) % 100_000;
        let space = if number.is_empty() { "" } else { " " };
        let _ = write!(number, "{space}{group:05}");
    }
    number
}

const LABEL: &[u8] = b"qpc/1 safety number\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_number_and_everything_counts() {
        let [alice, bob] = ["alice", "bob"].map(|name| UserName::new(name).unwrap());
        let [a, b, other] = [1, 2, 3].map(|byte| PublicKey([byte; 32]));
        let number = safety_number((&alice, &a), (&bob, &b));
        assert_eq!(number, "54856 38091 41130 06648 05485 86237 83296 58455 78987 52151 80999 00653");
        assert_eq!(safety_number((&bob, &b), (&alice, &a)), number);
        assert_ne!(safety_number((&alice, &a), (&bob, &other)), number);
        assert_ne!(safety_number((&alice, &b), (&bob, &a)), number);
    }
}
