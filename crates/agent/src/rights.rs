//! Who may ask for what: by the credentials that the kernel attests for the other end of a socket.

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Uid, User, getgrouplist};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::str::FromStr;

/// One thing that a program may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Right {
    /// List contacts and devices, compare safety numbers.
    Contacts,
    /// Note events, which go out as messages.
    Notify,
    /// Read messages.
    Receive,
    /// Send messages.
    Send,
    /// Ask how the agent is.
    Status,
    /// Trust a changed identity: only who has all rights.
    Trust,
}

impl Right {
    /// What it is called in rules. [`Right::Trust`] cannot be given by one.
    const NAMES: [(&str, Self); 5] = [
        ("send", Self::Send),
        ("receive", Self::Receive),
        ("contacts", Self::Contacts),
        ("status", Self::Status),
        ("notify", Self::Notify),
    ];
}

/// What a program may do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights(u8);

impl Rights {
    /// Everything.
    pub const ALL: Self = Self(u8::MAX);

    /// Whether this is among them.
    pub fn has(self, right: Right) -> bool {
        self.0 & 1 << right as u8 != 0
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<T: IntoIterator<Item = Right>>(rights: T) -> Self {
        Self(rights.into_iter().fold(0, |all, right| all | 1 << right as u8))
    }
}

/// A rule `WHO:RIGHT,RIGHT`: a user id, or `*` for everybody, and what it may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    uid: Option<u32>,
    rights: Rights,
}

/// A rule that makes no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write UID:RIGHT,RIGHT with a number or * and of send, receive, contacts, status and notify")]
pub struct BadRule;

impl FromStr for Rule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let (who, rights) = text.split_once(':').ok_or(BadRule)?;
        let uid = match who {
            "*" => None,
            number => Some(number.parse().map_err(|_| BadRule)?),
        };
        let right = |name| Right::NAMES.iter().find(|(known, _)| *known == name).map(|(_, right)| *right);
        let rights = rights.split(',').map(|name| right(name).ok_or(BadRule)).collect::<Result<_, _>>()?;
        Ok(Self { uid, rights })
    }
}

/// A program's credentials, at the time it connected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// Its user.
    pub uid: u32,
    /// Its groups.
    pub groups: Vec<u32>,
}

impl Credentials {
    /// Those of the other end of a socket. The kernel attests user and group; the further groups are those that the
    /// machine's group file gives the user. What /proc says of the process would be more exact, but the process may be
    /// gone already and its number another's; and where no rule opens the socket to everybody, the kernel itself has let
    /// in nobody who is not in the group.
    pub fn of(socket: impl AsFd) -> nix::Result<Self> {
        let peer = getsockopt(&socket, PeerCredentials)?;
        let (uid, gid) = (Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
        let mut groups = vec![gid];
        // A user without a name is in no group file.
        if let Ok(Some(user)) = User::from_uid(uid)
            && let Ok(name) = CString::new(user.name)
        {
            groups.extend(getgrouplist(&name, gid).unwrap_or_default());
        }
        Ok(Self { uid: uid.as_raw(), groups: groups.into_iter().map(Gid::as_raw).collect() })
    }
}

/// Who may do what.
#[derive(Clone, Debug)]
pub struct Policy {
    owner: u32,
    group: u32,
    users: BTreeMap<u32, Rights>,
    everybody: Rights,
}

impl Policy {
    /// All rights to root, `owner` and members of `group`; to others what the rules say.
    pub fn new(owner: u32, group: u32, rules: &[Rule]) -> Self {
        let mut policy = Self { owner, group, users: BTreeMap::new(), everybody: Rights::default() };
        for rule in rules {
            let rights = match rule.uid {
                Some(uid) => policy.users.entry(uid).or_default(),
                None => &mut policy.everybody,
            };
            *rights = rights.and(rule.rights);
        }
        policy
    }

    /// What somebody may do.
    pub fn rights(&self, who: &Credentials) -> Rights {
        if who.uid == 0 || who.uid == self.owner || who.groups.contains(&self.group) {
            return Rights::ALL;
        }
        self.users.get(&who.uid).copied().unwrap_or_default().and(self.everybody)
    }

    /// Whether it gives rights to others than those whom the mode of the socket lets in anyway.
    pub fn has_rules(&self) -> bool {
        !self.users.is_empty() || self.everybody != Rights::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(uid: u32, groups: &[u32]) -> Credentials {
        Credentials { uid, groups: groups.to_vec() }
    }

    #[test]
    fn root_owner_and_group_may_everything_and_others_what_rules_say() {
        let rules = ["1000:send,notify", "1000:status", "*:notify"].map(|rule| rule.parse().unwrap());
        let policy = Policy::new(500, 600, &rules);
        for all in [who(0, &[0]), who(500, &[7]), who(1001, &[9, 600])] {
            assert_eq!(policy.rights(&all), Rights::ALL);
        }
        let some = policy.rights(&who(1000, &[1000]));
        let allowed = [Right::Send, Right::Notify, Right::Status];
        assert_eq!(some, allowed.into_iter().collect());
        assert!(allowed.into_iter().all(|right| some.has(right)));
        assert!([Right::Receive, Right::Contacts, Right::Trust].into_iter().all(|right| !some.has(right)));
        assert_eq!(policy.rights(&who(1002, &[])), [Right::Notify].into_iter().collect());
        assert!(policy.has_rules());

        let closed = Policy::new(500, 600, &[]);
        assert_eq!(closed.rights(&who(1000, &[1000, 601])), Rights::default());
        assert!(!closed.has_rules());
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused() {
        for rule in [
            "",
            "1000",
            "1000:",
            "1000:send,",
            "bob:send",
            "-1:send",
            "1:trust",
            "1:SEND",
            "**:send",
            ":send",
        ] {
            assert_eq!(rule.parse::<Rule>(), Err(BadRule), "{rule}");
        }
    }

    #[test]
    fn the_kernel_says_who_is_at_the_other_end() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let found = Credentials::of(&one).unwrap();
        assert_eq!(found.uid, Uid::effective().as_raw());
        assert!(found.groups.contains(&Gid::effective().as_raw()));
    }
}
