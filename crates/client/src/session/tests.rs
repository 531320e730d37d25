//! A session with a relay that says what a test wants it to.

use super::*;
use crate::engine::Want;
use crate::link::tests as link;
use crate::mls::{DeviceSecret, IdentitySecret, SystemEntropy};
use qpc_journal::{Batch, Directory, Journal};
use qpc_proto::envelope::Kind;
use qpc_proto::frame::{self, Decoder};
use qpc_proto::id::{ConversationId, Generation, PublicKey};
use qpc_proto::limits::{MAX_BULK_FRAME, MAX_CLAIM};
use qpc_proto::message::{
    Accepted, ClientFrame, Conversation, Conversations, Delivery, Done, Durability, Entry, KeyPackages,
    Notice, NoticeKind, RefusedEntry, RelayFrame, Session,
};
use qpc_proto::wire::{List, Message as _};
use qpc_transport::executor::{block_on, unless};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const CONVERSATION: ConversationId = ConversationId([1; 16]);

#[test]
fn what_waits_in_the_queue_comes_before_a_comparison_of_epochs() {
    block_on(async {
        let mut world = World::new().await;
        (world.relay.session.next_delivery, world.relay.queue) = (3, BTreeSet::from([1, 2]));
        // The commit to it is in the queue.
        world.relay.epoch = 2;
        world.relay.session.generation = Generation([2; 16]);
        world.open_session().await.unwrap();
        assert_eq!((world.relay.lists, world.relay.groups), (0, 0));
        let wants = world.client.engine().unwrap().wants();
        assert!(wants.contains(&Want::Reconcile(CONVERSATION)) && !wants.contains(&Want::Join(CONVERSATION)));

        // It goes on where it stopped.
        for seq in [1, 2] {
            world.relay.push(seq).await;
        }
        world.relay.epoch = 1;
        world.catch_up().await.unwrap();
        assert_eq!(world.relay.lists, 1);
        world.catch_up().await.unwrap();
        assert_eq!(world.relay.lists, 1);
    });
}

#[test]
fn entries_that_have_expired_are_not_waited_for() {
    block_on(async {
        let mut world = World::new().await;
        world.relay.session.next_delivery = 701;
        world.open_session().await.unwrap();
        assert_eq!(world.relay.lists, 1);
        assert!(world.relay.probes <= 10, "{}", world.relay.probes);
    });
}

#[test]
fn numbers_that_no_relay_gives_are_not_stored() {
    block_on(async {
        let mut world = World::new().await;
        let honest = world.relay.session.clone();
        let sessions = [
            Session { last_number: u64::MAX, ..honest.clone() },
            Session { next_delivery: u64::MAX, ..honest.clone() },
        ];
        for session in sessions {
            world.relay.session = session;
            assert!(matches!(world.open_session().await, Err(Error::Protocol)));
        }
        world.relay.session = honest;
        world.open_session().await.unwrap();
        world.relay.push(MAX_CLAIM + 1).await;
        assert!(matches!(world.catch_up().await, Err(Error::Protocol)));
        let engine = world.client.engine().unwrap();
        assert_eq!(engine.delivered(), 0);
        assert_eq!(engine.self_update(CONVERSATION).unwrap().number, 2);
    });
}

#[test]
fn what_cannot_be_done_does_not_stop_the_rest() {
    block_on(async {
        // A row that makes every upload of key packages fail.
        let mut world = World::with(&[(b"p?", b"")]).await;
        world.relay.session.key_packages = 0;
        world.relay.session.next_delivery = 2;
        world.relay.push(1).await;
        world.open_session().await.unwrap();
        let engine = world.client.engine().unwrap();
        assert_eq!(engine.wants(), [Want::UploadKeyPackages]);
        assert_eq!(engine.delivered(), 1);
    });
}

#[test]
fn what_is_held_waits_for_whatever_is_not_its_own_fault() {
    block_on(async {
        let codes = [
            ErrorCode::StorageFull,
            ErrorCode::StorageReadOnly,
            ErrorCode::Internal,
            ErrorCode::UnknownConversation,
            ErrorCode::Unknown(999),
        ];
        for code in codes {
            let mut world = World::new().await;
            world.open_session().await.unwrap();
            world.hold("carol");
            world.hold("carol");
            world.relay.refuse.insert(user("carol"), code);
            world.send_held().await.unwrap();
            assert_eq!(world.client.waiting(), 2, "{code:?}");
            assert!(world.client.following.updates.is_empty(), "{code:?}");
        }

        let mut world = World::new().await;
        world.open_session().await.unwrap();
        world.hold("carol");
        world.relay.refuse.insert(user("carol"), ErrorCode::Rejected);
        world.send_held().await.unwrap();
        assert_eq!(world.client.waiting(), 0);
        assert!(matches!(world.client.following.updates[0], Update::NotSent { .. }));
    });
}

#[test]
fn what_is_held_outlives_the_session() {
    block_on(async {
        let mut world = World::new().await;
        world.open_session().await.unwrap();
        world.hold("carol");
        world.hold("dave");
        world.relay.end.say(0, Notice { kind: NoticeKind::Replaced }).await;
        assert!(matches!(world.send_held().await, Err(Error::Replaced)));
        assert_eq!(world.client.waiting(), 2);
    });
}

#[test]
fn a_conversation_that_the_relay_could_not_begin_is_begun_again() {
    block_on(async {
        let mut world = World::new().await;
        world.open_session().await.unwrap();
        world.hold("carol");
        world.relay.refuse_commits = Some(ErrorCode::StorageFailed);
        world.send_held().await.unwrap();
        assert_eq!(world.relay.commits, 1);
        world.send_held().await.unwrap();
        assert_eq!((world.relay.commits, world.client.waiting()), (1, 1));

        world.relay.refuse_commits = None;
        world.client.following.again_at = Some(Instant::now());
        let World { client, relay, .. } = &mut world;
        relay.during(client.send_again(&Interrupt::default())).await.unwrap();
        assert_eq!((world.relay.commits, world.client.waiting()), (2, 1));
        let engine = world.client.engine().unwrap();
        assert!(engine.direct(&user("carol")).is_some_and(|known| known.joined));
    });
}

#[test]
fn who_cannot_be_written_to_does_not_hold_up_others() {
    block_on(async {
        let mut world = World::new().await;
        world.open_session().await.unwrap();
        world.relay.refuse.insert(user("carol"), ErrorCode::Internal);
        for recipient in ["carol", "dave", "carol"] {
            world.hold(recipient);
        }
        world.send_held().await.unwrap();
        assert_eq!((world.relay.commits, world.client.waiting()), (1, 2));
        // Not even asked for again before its time.
        world.relay.refuse.clear();
        world.send_held().await.unwrap();
        assert_eq!((world.relay.commits, world.client.waiting()), (1, 2));
    });
}

#[test]
fn what_is_due_only_later_is_waited_for() {
    block_on(async {
        let mut world = World::new().await;
        world.open_session().await.unwrap();
        assert!(matches!(world.next().await, Ok(Some(Update::Connected))));
        world.hold("carol");
        world.client.following.waits.insert(user("carol"), Instant::now());
        world.client.following.again_at = Some(Instant::now() + Duration::from_secs(60));
        assert!(timeout(Duration::ZERO, world.client.next(&Interrupt::default())).await.is_none());
        // It has not gone round and round until then.
        assert!(world.client.following.again_at.is_some());
    });
}

#[test]
fn a_session_is_opened_however_often_it_is_interrupted() {
    block_on(async {
        let World { mut client, mut relay, _state } = World::new().await;
        let (waiting, endpoint) = link::server(64 * 1024);
        (client.relay, client.link) = (endpoint, None);
        // There is only one connection to be had.
        let served = async {
            relay.end = link::accept(waiting).await;
            relay.serve().await;
        };
        let connected = async {
            let interrupt = Interrupt::default();
            interrupt.set();
            while !matches!(client.next(&interrupt).await.unwrap(), Some(Update::Connected)) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let connected = timeout(Duration::from_secs(20), unless(served, connected)).await;
        assert!(connected.flatten().is_some());
    });
}

#[test]
fn who_interrupts_waits_for_one_message_only() {
    block_on(async {
        let mut world = World::new().await;
        world.open_session().await.unwrap();
        for recipient in ["carol", "dave"] {
            world.relay.refuse.insert(user(recipient), ErrorCode::Internal);
            world.hold(recipient);
        }
        let interrupt = Interrupt::default();
        interrupt.set();
        for waits in [1, 2] {
            let World { client, relay, .. } = &mut world;
            relay.during(client.send_held(&interrupt)).await.unwrap();
            assert_eq!(world.client.following.waits.len(), waits);
        }
    });
}

#[test]
fn a_full_disk_is_waited_out() {
    block_on(async {
        let mut world = World::with_budget(256 * 1024).await;
        world.open_session().await.unwrap();
        let mut held = 0;
        for body in [40_000, 2_000, 1] {
            let envelope = envelope(Kind::Text, &vec![b'a'; body], false).unwrap();
            let carol = user("carol");
            let error = loop {
                match world.client.hold(&carol, &envelope) {
                    Ok(()) => held += 1,
                    Err(error) => break error,
                }
            };
            assert!(error.is_full(), "{error}");
        }
        world.send_held().await.unwrap();
        assert_eq!(world.client.waiting(), held);
        assert!(world.client.following.updates.is_empty());

        // What comes now cannot be stored.
        assert!(matches!(world.next().await, Ok(Some(Update::Connected))));
        world.relay.push(1).await;
        let lost = world.next().await;
        assert!(
            matches!(&lost, Ok(Some(Update::Disconnected { reason })) if reason.contains("full")),
            "{lost:?}"
        );
        assert!(world.client.trouble().is_some_and(|trouble| trouble.contains("full")));
        assert_eq!(world.client.messages_after(0, 1).unwrap().len(), 0);
    });
}

/// A client whose device is in a group, and its relay.
struct World {
    client: Client,
    relay: Relay,
    _state: TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these rows in its journal.
    async fn with(rows: &[(&[u8], &[u8])]) -> Self {
        Self::with_journal(|path| {
            let mut journal = Journal::open(Directory::open(path).unwrap(), Default::default()).unwrap().0;
            for (key, row) in rows {
                let mut batch = Batch::new();
                batch.put(*key, *row);
                journal.commit(&batch).unwrap();
            }
            journal
        })
        .await
    }

    /// With a journal that takes no more than so many bytes.
    async fn with_budget(max_bytes: u64) -> Self {
        Self::with_journal(|path| {
            let options = qpc_journal::Options { max_bytes, segment_bytes: 64 * 1024, ..Default::default() };
            Journal::open(Directory::open(path).unwrap(), options).unwrap().0
        })
        .await
    }

    async fn with_journal(journal: impl FnOnce(&Path) -> Journal<Directory>) -> Self {
        let (link, end) = link::connected(64 * 1024).await;
        let state = tempfile::tempdir().unwrap();
        let alice = user("alice");
        let entropy = SystemEntropy::new();
        let identity = IdentitySecret::generate(&entropy).unwrap();
        let device = DeviceSecret::generate(&entropy).unwrap();
        let certificate = device.certify(&alice, &identity);
        let journal = journal(&state.path().join("journal"));
        let mut engine = Engine::create(journal, Arc::new(entropy), device, certificate).unwrap();

        let relay = Relay::new(end, engine.account().device, engine.account().identity_key);
        engine.session_opened(&relay.session).unwrap();
        let found = relay.conversation();
        engine.conversation_opened(&user("bob"), &found).unwrap();
        let created = engine.create_group(CONVERSATION, &[]).unwrap();
        engine.answered(created.number, &Accepted { epoch: 1 }.into()).unwrap();

        let options = Options { patience: Duration::from_secs(3), ..Options::from_environment() };
        let endpoint = link::server(1024).1;
        let client = Client { engine: Some(engine), ..Client::with(endpoint, options, Some(link)) };
        Self { client, relay, _state: state }
    }

    /// Opens a session for a caller that is in a hurry.
    async fn open_session(&mut self) -> Result<(), Error> {
        let Self { client, relay, .. } = self;
        relay
            .during(async {
                client.open_session().await?;
                client.synchronise(Instant::now()).await
            })
            .await
    }

    async fn catch_up(&mut self) -> Result<(), Error> {
        let Self { client, relay, .. } = self;
        let deadline = Instant::now() + client.options.patience;
        relay.during(client.catch_up(deadline)).await
    }

    async fn next(&mut self) -> Result<Option<Update>, Error> {
        let Self { client, relay, .. } = self;
        relay.during(client.next(&Interrupt::default())).await
    }

    fn hold(&mut self, recipient: &str) {
        let envelope = envelope(Kind::Text, b"hello", false).unwrap();
        self.client.hold(&user(recipient), &envelope).unwrap();
    }

    async fn send_held(&mut self) -> Result<(), Error> {
        let Self { client, relay, .. } = self;
        relay.during(client.send_held(&Interrupt::default())).await
    }
}

/// The relay's end, and what it says.
struct Relay {
    end: link::Relay,
    session: Session,
    /// Of the conversation.
    epoch: u64,
    /// Entries that can be fetched.
    queue: BTreeSet<u64>,
    /// How often it was asked for conversations, for a group, for an entry.
    lists: usize,
    groups: usize,
    probes: usize,
    /// How many commits it was given.
    commits: usize,
    /// What it answers to who wants a conversation with somebody, and to commits.
    refuse: BTreeMap<UserName, ErrorCode>,
    refuse_commits: Option<ErrorCode>,
    /// Of all accounts.
    identity: PublicKey,
}

impl Relay {
    fn new(end: link::Relay, device: DeviceId, identity: PublicKey) -> Self {
        let session = Session {
            device,
            last_number: 0,
            next_delivery: 1,
            key_packages: 30,
            last_resort: true,
            generation: Generation([1; 16]),
        };
        Self {
            end,
            session,
            epoch: 1,
            queue: BTreeSet::new(),
            lists: 0,
            groups: 0,
            probes: 0,
            commits: 0,
            refuse: BTreeMap::new(),
            refuse_commits: None,
            identity,
        }
    }

    /// Answers until `client` is done.
    async fn during<T>(&mut self, client: impl Future<Output = T>) -> T {
        let mut output = None;
        unless(async { output = Some(client.await) }, self.serve()).await;
        output.unwrap()
    }

    async fn serve(&mut self) {
        loop {
            if self.end.connection.lost().is_some() {
                // There is nothing to wait for any more.
                pending::<()>().await;
            }
            if let Some(Some(frame)) = timeout(TURN, self.end.next_request()).await {
                if let Some(reply) = self.answer(&frame.request.unwrap()) {
                    self.end.say(frame.id, reply).await;
                }
            } else if let Some(Ok(stream)) = timeout(TURN, self.end.connection.accept()).await {
                let mut decoder = Decoder::new(MAX_BULK_FRAME);
                while let Some(bytes) = self.end.connection.read(stream).await.unwrap() {
                    decoder.feed(&bytes);
                }
                let frame = ClientFrame::decode(decoder.next_frame().unwrap().unwrap()).unwrap();
                let reply = self.answer(&frame.request.unwrap());
                let frame = frame::encode(&RelayFrame { id: frame.id, reply });
                self.end.connection.write_all(stream, &frame).await.unwrap();
                self.end.connection.finish(stream);
            }
        }
    }

    fn answer(&mut self, request: &Request) -> Option<Reply> {
        Some(match request {
            Request::OpenSession(_) => self.session.clone().into(),
            Request::Credit(_) => return None,
            Request::ListConversations(_) => {
                self.lists += 1;
                let conversations = List::new(vec![self.conversation()]).unwrap();
                Conversations { conversations, more: false }.into()
            }
            Request::FetchGroup(_) => {
                self.groups += 1;
                refusal(ErrorCode::Internal)
            }
            Request::OpenDirect(open) => match self.refuse.get(&open.peer) {
                Some(code) => refusal(*code),
                None => Conversation { id: ConversationId([2; 16]), epoch: 0, ..self.conversation() }.into(),
            },
            Request::FetchKeyPackages(_) => KeyPackages {
                identity_key: self.identity,
                packages: List::default(),
                without: List::default(),
            }
            .into(),
            Request::SubmitCommit(commit) => {
                self.commits += 1;
                self.refuse_commits.map_or_else(|| Accepted { epoch: commit.epoch + 1 }.into(), refusal)
            }
            Request::FetchDelivery(fetch) => {
                self.probes += 1;
                let entry = self.queue.contains(&fetch.seq).then(entry);
                Delivery { seq: fetch.seq, too_large: 0, entry }.into()
            }
            _ => Done {}.into(),
        })
    }

    fn conversation(&self) -> Conversation {
        Conversation {
            id: CONVERSATION,
            epoch: self.epoch,
            created: false,
            member: true,
            accounts: List::default(),
            resync: false,
        }
    }

    async fn push(&mut self, seq: u64) {
        self.end.say(0, Delivery { seq, too_large: 0, entry: Some(entry()) }).await;
    }
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn refusal(code: ErrorCode) -> Reply {
    qpc_proto::message::Error { code, reason: Default::default(), detail: 0 }.into()
}

/// An entry that changes nothing.
fn entry() -> Entry {
    Entry {
        conversation: CONVERSATION,
        sender: None,
        time: 0,
        age: 0,
        durability: Durability::Durable,
        kind: Some(RefusedEntry {}.into()),
    }
}

/// How long the relay looks at one of its streams before it looks at another.
const TURN: Duration = Duration::from_millis(5);
