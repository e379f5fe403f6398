//! A TCP proxy between a client and brokers that cuts, stalls, slows and loses on demand.
//!
//! It forwards whole Kafka messages (four bytes of length, then a request that begins with
//! its kind), so that a test can say "lose the answer to the next end of a transaction".

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Kinds of requests, as Kafka's protocol numbers them.
pub const PRODUCE: i16 = 0;
pub const HEARTBEAT: i16 = 12;
pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
pub const ADD_OFFSETS_TO_TXN: i16 = 25;
pub const END_TXN: i16 = 26;
pub const TXN_OFFSET_COMMIT: i16 = 28;

/// A message longer than this is no Kafka message.
const MAX_FRAME: usize = 256 * 1024 * 1024;

/// What happens to everything that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Open,
    /// Connections are closed and none is made.
    Cut,
    /// Connections are made and nothing comes through.
    Stalled,
    /// Every message waits, and then comes at a limited rate.
    Slow {
        delay: Duration,
        bytes_per_second: u32,
    },
}

/// What happens to the one request that a trap catches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It never arrives; the connection is closed.
    LoseRequest,
    /// It arrives; the connection is closed before the answer.
    LoseAnswer,
    /// The connection is closed for the client, and it arrives so much later.
    Delay(Duration),
    /// From this request on nothing comes through, in either direction.
    Stall,
}

/// One client's way to all brokers of a cluster.
pub struct Door {
    shared: Arc<Shared>,
    ports: Vec<u16>,
    acceptors: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    trap: Option<(i16, Then)>,
    links: Vec<Arc<Link>>,
    closed: bool,
}

/// One connection: both of its ends.
struct Link {
    client: TcpStream,
    broker: TcpStream,
    /// The next answer is lost, and the connection with it.
    deaf: AtomicBool,
    /// The client is gone, the broker is not to know yet.
    orphan: AtomicBool,
}

impl Door {
    /// A door to brokers that will listen on these ports of 127.0.0.1.
    pub fn new(brokers: &[u16]) -> Door {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                mode: Mode::Open,
                trap: None,
                links: Vec::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        });
        let mut door = Door {
            shared,
            ports: Vec::new(),
            acceptors: Vec::new(),
        };
        for broker in brokers.iter().copied() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = listener.local_addr().expect("a bound socket").port();
            let shared = Arc::clone(&door.shared);
            door.ports.push(port);
            door.acceptors.push(std::thread::spawn(move || {
                accept(&listener, broker, &shared);
            }));
        }
        door
    }

    /// The port that leads to each broker.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// `host:port`, comma separated.
    pub fn bootstrap(&self) -> String {
        let all: Vec<String> = self
            .ports
            .iter()
            .map(|p| format!("127.0.0.1:{p}"))
            .collect();
        all.join(",")
    }

    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.lock();
        state.mode = mode;
        if mode == Mode::Cut {
            state.close_all();
        }
        self.shared.changed.notify_all();
    }

    /// Everything comes through again, what waited included; no trap is left.
    pub fn heal(&self) {
        self.shared.lock().trap = None;
        self.set(Mode::Open);
    }

    /// Does `then` to the next request of `kind`, and to no other.
    pub fn trap(&self, kind: i16, then: Then) {
        self.shared.lock().trap = Some((kind, then));
    }

    /// Whether the last [`Self::trap`] has caught its request.
    pub fn has_sprung(&self) -> bool {
        self.shared.lock().trap.is_none()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.set(Mode::Cut);
        for port in &self.ports {
            // Wakes the acceptor, which looks at `closed`.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, *port));
        }
        for acceptor in self.acceptors.drain(..) {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while nothing may pass; the mode under which it may, or `None` where the
    /// connection is to be closed.
    fn pass(&self) -> Option<Mode> {
        let mut state = self.lock();
        while state.mode == Mode::Stalled {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        (state.mode != Mode::Cut).then_some(state.mode)
    }

    /// Waits `delay`, or less where the door is closed.
    fn delay(&self, delay: Duration) {
        let deadline = Instant::now() + delay;
        let mut state = self.lock();
        while !state.closed {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// What is to be done with a request of `kind`.
    fn spring(&self, kind: i16) -> Option<Then> {
        let mut state = self.lock();
        let (_, then) = state.trap.take_if(|(wanted, _)| *wanted == kind)?;
        if then == Then::Stall {
            state.mode = Mode::Stalled;
        }
        Some(then)
    }
}

impl State {
    fn close_all(&mut self) {
        for link in self.links.drain(..) {
            link.close();
        }
    }
}

impl Link {
    fn close(&self) {
        // It may be closed already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.broker.shutdown(Shutdown::Both);
    }
}

fn accept(listener: &TcpListener, broker: u16, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        let mut state = shared.lock();
        if state.closed {
            return;
        }
        let Ok((client, _)) = accepted else { continue };
        if state.mode == Mode::Cut {
            continue;
        }
        // A broker that is down refuses, and so does the door.
        let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) else {
            continue;
        };
        for stream in [&client, &broker] {
            // Small messages must not wait for each other.
            let _ = stream.set_nodelay(true);
        }
        let link = Arc::new(Link {
            client,
            broker,
            deaf: AtomicBool::new(false),
            orphan: AtomicBool::new(false),
        });
        state.links.retain(|link| Arc::strong_count(link) > 1);
        state.links.push(Arc::clone(&link));
        drop(state);
        // They end with their connection, which ends with the door.
        let (there, back) = (Arc::clone(&link), link);
        let (up, down) = (Arc::clone(shared), Arc::clone(shared));
        std::thread::spawn(move || {
            if requests(&there, &up).is_err() && !there.orphan.load(Ordering::SeqCst) {
                there.close();
            }
        });
        std::thread::spawn(move || {
            if answers(&back, &down).is_err() && !back.orphan.load(Ordering::SeqCst) {
                back.close();
            }
        });
    }
}

/// From the client to the broker, until one of them closes.
fn requests(link: &Link, shared: &Shared) -> io::Result<()> {
    loop {
        let frame = read_frame(&link.client)?;
        let kind = i16::from_be_bytes([frame[4], frame[5]]);
        match shared.spring(kind) {
            None | Some(Then::Stall) => {}
            Some(Then::LoseRequest) => return Err(io::ErrorKind::ConnectionReset.into()),
            Some(Then::LoseAnswer) => link.deaf.store(true, Ordering::SeqCst),
            Some(Then::Delay(delay)) => {
                link.orphan.store(true, Ordering::SeqCst);
                let _ = link.client.shutdown(Shutdown::Both);
                shared.delay(delay);
                (&link.broker).write_all(&frame)?;
                // The broker reads it before it sees the end.
                link.broker.shutdown(Shutdown::Write)?;
                return Ok(());
            }
        }
        forward(&frame, &link.broker, shared)?;
    }
}

/// From the broker to the client, until one of them closes.
fn answers(link: &Link, shared: &Shared) -> io::Result<()> {
    loop {
        let frame = read_frame(&link.broker)?;
        if link.deaf.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if !link.orphan.load(Ordering::SeqCst) {
            forward(&frame, &link.client, shared)?;
        }
    }
}

fn forward(frame: &[u8], mut to: &TcpStream, shared: &Shared) -> io::Result<()> {
    match shared.pass() {
        None => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(Mode::Slow {
            delay,
            bytes_per_second,
        }) => {
            let sending = frame.len() as f64 / f64::from(bytes_per_second.max(1));
            shared.delay(delay + Duration::from_secs_f64(sending));
        }
        Some(_) => {}
    }
    to.write_all(frame)
}

/// One message, its length included; at least six bytes.
fn read_frame(mut from: &TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    if !(2..=MAX_FRAME).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}
