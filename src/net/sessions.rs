//! TLS sessions of servers that get deliveries, for connections that are made anew: one costs a third then. How big a ticket is,
//! and the certificates that rustls keeps beside each, is for the server to choose, up to 128 KiB; so they are weighed.
//!
//! Promises: all together never take more than [`MOST`] bytes; of one server one ticket is kept, and no big one; what
//! was used longest ago goes first; a ticket is used once.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use super::pools::oldest;

/// Bytes of all sessions: those of 13,000 servers with ordinary certificates.
pub(super) const MOST: usize = 64 << 20;

/// Bytes of one session. Real ones have 2 to 8 KiB.
const MOST_OF_ONE: usize = 16 << 10;

/// What is counted for each server, and again for each session, beside what the server chose: names, lists, keys.
const BESIDE: usize = 512;

/// The store that rustls asks. All connections for deliveries share one.
#[derive(Debug)]
pub(super) struct Sessions {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    uses: u64,
    bytes: usize,
    servers: HashMap<ServerName<'static>, Server>,
}

#[derive(Debug, Default)]
struct Server {
    used: u64,
    group: Option<NamedGroup>,
    old: Option<(usize, Tls12ClientSessionValue)>,
    /// One, of the two that most servers send at each handshake: most have one connection of ours, and each new one brings
    /// new tickets.
    ticket: Option<(usize, Tls13ClientSessionValue)>,
}

impl Sessions {
    /// Room for so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// Bytes taken.
    pub(super) fn bytes(&self) -> usize {
        self.kept().bytes
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is kept of a server, and makes room if that has become too much.
    fn change(&self, name: ServerName<'static>, change: impl FnOnce(&mut Server)) {
        let mut kept = self.kept();
        let Kept { uses, bytes, servers } = &mut *kept;
        *uses += 1;
        *bytes -= servers.get(&name).map_or(0, Server::bytes);
        let server = servers.entry(name).or_default();
        server.used = *uses;
        change(server);
        *bytes += server.bytes();
        while *bytes > self.most
            && let Some(youngest) = oldest(servers.values().map(|server| server.used))
        {
            servers.retain(|_, server| {
                let stays = server.used > youngest;
                *bytes -= if stays { 0 } else { server.bytes() };
                stays
            });
        }
    }
}

impl Server {
    fn bytes(&self) -> usize {
        let of = |bytes: Option<&usize>| bytes.copied().unwrap_or_default();
        BESIDE + of(self.ticket.as_ref().map(|(bytes, _)| bytes)) + of(self.old.as_ref().map(|(bytes, _)| bytes))
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.change(name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().servers.get(&name.to_owned())?.group
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        let weighed = weigh(&session).map(|bytes| (bytes, session));
        self.change(name, |server| server.old = weighed);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept().servers.get(&name.to_owned())?.old.as_ref().map(|(_, session)| session.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.change(name.clone(), |server| server.old = None);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        // The one that came first is as good, and nothing is weighed in vain.
        if self.kept().servers.get(&name).is_some_and(|server| server.ticket.is_some()) {
            return;
        }
        if let Some(bytes) = weigh(&ticket) {
            self.change(name, |server| server.ticket = Some((bytes, ticket)));
        }
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.kept();
        let Kept { uses, bytes, servers } = &mut *kept;
        let server = servers.get_mut(name)?;
        *uses += 1;
        server.used = *uses;
        let (weighs, ticket) = server.ticket.take()?;
        *bytes -= weighs;
        Some(ticket)
    }
}

/// How many bytes a session takes, nearly; `None` if that is too many. rustls tells no sizes; but what it prints for debugging
/// is ticket and certificates in hexadecimal digits (and not the secret). Nothing of that is kept, and it ends at the limit.
fn weigh(session: &impl fmt::Debug) -> Option<usize> {
    let mut digits = Digits(0);
    write!(digits, "{session:?}").ok()?;
    Some(BESIDE + digits.0 / 2)
}

/// Counts what is written, up to the digits of [`MOST_OF_ONE`].
struct Digits(usize);

impl fmt::Write for Digits {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0 += piece.len();
        if self.0 > MOST_OF_ONE * 2 { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::client::{ClientConnection, Resumption};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::server::ServerConnection;
    use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};

    use super::super::testing::{Tickets, tls_config};
    use super::*;

    fn client(sessions: &Arc<Sessions>, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let ca = CertificateDer::from_pem_slice(include_bytes!("../../tests/fixtures/tls/ca.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::store(sessions.clone());
        Arc::new(config)
    }

    /// A server whose tickets have so many bytes, of which it sends so many.
    fn server(bytes: usize, count: usize) -> Arc<ServerConfig> {
        let mut config = tls_config(&[], 0);
        config.ticketer = Arc::new(Tickets(bytes));
        config.send_tls13_tickets = count;
        Arc::new(config)
    }

    /// One connection, up to where all tickets have come.
    fn connect(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &str) -> HandshakeKind {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut here = ClientConnection::new(client.clone(), name).unwrap();
        let mut there = ServerConnection::new(server.clone()).unwrap();
        let mut wire = Vec::new();
        while here.wants_write() || there.wants_write() {
            wire.clear();
            while here.wants_write() {
                here.write_tls(&mut wire).unwrap();
            }
            let mut rest = &wire[..];
            while !rest.is_empty() {
                there.read_tls(&mut rest).unwrap();
                there.process_new_packets().unwrap();
            }
            wire.clear();
            while there.wants_write() {
                there.write_tls(&mut wire).unwrap();
            }
            let mut rest = &wire[..];
            while !rest.is_empty() {
                here.read_tls(&mut rest).unwrap();
                here.process_new_packets().unwrap();
            }
        }
        here.handshake_kind().unwrap()
    }

    #[test]
    fn a_server_has_one_ticket_and_it_is_used_once() {
        let (sessions, server) = (Arc::new(Sessions::new(MOST)), server(200, 8));
        let client = client(&sessions, &rustls::version::TLS13);
        assert_eq!(connect(&client, &server, "a.tls.example"), HandshakeKind::Full);
        let held = |name: &str| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            sessions.kept().servers.get(&name).map_or(0, |server| usize::from(server.ticket.is_some()))
        };
        assert_eq!((held("a.tls.example"), held("b.tls.example")), (1, 0));
        let name = ServerName::try_from("a.tls.example").unwrap();
        assert!(sessions.kx_hint(&name).is_some());
        assert!(sessions.take_tls13_ticket(&name).is_some());
        assert!(sessions.take_tls13_ticket(&name).is_none());
        assert_eq!(sessions.bytes(), BESIDE, "what was taken is not counted any more");
        assert_eq!(connect(&client, &server, "a.tls.example"), HandshakeKind::Full);
        assert_eq!(connect(&client, &server, "a.tls.example"), HandshakeKind::Resumed);
        assert_eq!(connect(&client, &server, "b.tls.example"), HandshakeKind::Full, "another's");
    }

    #[test]
    fn a_big_ticket_is_not_kept_whichever_version_it_is_of() {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let sessions = Arc::new(Sessions::new(MOST));
            let client = client(&sessions, version);
            for (bytes, second) in [(40_000, HandshakeKind::Full), (2_000, HandshakeKind::Resumed)] {
                let server = server(bytes, 1);
                assert_eq!(connect(&client, &server, "a.tls.example"), HandshakeKind::Full, "{bytes} {version:?}");
                assert_eq!(connect(&client, &server, "a.tls.example"), second, "{bytes} {version:?}");
                assert!(sessions.bytes() < 3 * (bytes.min(2_000) + 2_000 + BESIDE), "{bytes} {version:?}");
            }
        }
    }

    #[test]
    fn all_sessions_together_stay_within_their_room_and_the_oldest_go_first() {
        let room = 100 * MOST_OF_ONE;
        let (sessions, server) = (Arc::new(Sessions::new(room)), server(12_000, 2));
        let client = client(&sessions, &rustls::version::TLS13);
        let name = |number: usize| format!("s{number}.tls.example");
        for number in 0..300 {
            connect(&client, &server, &name(number));
            assert!(sessions.bytes() <= room, "{} bytes", sessions.bytes());
        }
        assert!(sessions.bytes() > room / 2, "the room is used: {}", sessions.bytes());
        assert_eq!(connect(&client, &server, &name(299)), HandshakeKind::Resumed);
        assert_eq!(connect(&client, &server, &name(0)), HandshakeKind::Full);
        let kept = sessions.kept();
        assert_eq!(kept.bytes, kept.servers.values().map(Server::bytes).sum::<usize>(), "the count is right");
    }
}
