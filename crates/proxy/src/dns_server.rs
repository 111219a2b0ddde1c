//! Answers to the application's DNS questions, over UDP and TCP (SE33): names of the mesh from [`Book`], all others from
//! the resolvers that resolv.conf names.
//!
//! Bounded: questions under way, connections, their silence, and how long a resolver may take.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType, rdata};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::names::Book;

/// How long an answer of ours may be kept, in seconds, as in Istio.
const TTL_SECONDS: u32 = 30;
/// Questions under way; more are not answered, and asked again by who asked.
const QUESTIONS_MAX: usize = 512;
/// TCP connections at a time; more wait.
const CONNECTIONS_MAX: usize = 64;
/// A TCP connection without a question is closed after this.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long one resolver may take before the next one is asked.
const RESOLVER_MAX: Duration = Duration::from_secs(2);
/// Resolvers that are asked for one question.
const RESOLVERS_MAX: usize = 3;
/// Longest datagram, in bytes.
const DATAGRAM_MAX: usize = 4096;
/// Longest answer for who does not say what fits (RFC 1035 4.2.1).
const ANSWER_DEFAULT: usize = 512;

/// Answers a question without asking anybody; `None`: it cannot.
pub type Beyond = Box<dyn Fn(&[u8]) -> Option<Vec<u8>>>;

/// Answers questions.
pub struct Server {
    /// Names of the mesh; replaced when the control plane sends others.
    pub book: RefCell<Arc<Book>>,
    resolvers: Vec<SocketAddr>,
    beyond: Option<Beyond>,
    questions: Arc<Semaphore>,
}

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// In a datagram, which bounds the answer.
    Udp,
    /// Over a connection.
    Tcp,
}

impl Server {
    /// A server that knows no names yet. `address` is its own, which it never asks.
    pub fn new(address: SocketAddr, resolvers: &[SocketAddr]) -> Rc<Self> {
        let others = resolvers.iter().copied().filter(|other| *other != address);
        Rc::new(Self {
            book: RefCell::default(),
            resolvers: others.take(RESOLVERS_MAX).collect(),
            beyond: None,
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        })
    }

    /// A server that asks nobody for names that it does not know; `beyond` answers for them.
    pub fn alone(beyond: Beyond) -> Rc<Self> {
        let questions = Arc::new(Semaphore::new(QUESTIONS_MAX));
        Rc::new(Self { book: RefCell::default(), resolvers: Vec::new(), beyond: Some(beyond), questions })
    }

    /// Listens, and answers for as long as the program runs.
    pub async fn listen(self: &Rc<Self>, address: SocketAddr) -> Result<()> {
        let udp = UdpSocket::bind(address).await.with_context(|| format!("cannot listen on {address} (UDP)"))?;
        let tcp = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (TCP)"))?;
        spawn_local(self.clone().datagrams(Rc::new(udp)));
        spawn_local(self.clone().connections(tcp));
        Ok(())
    }

    async fn datagrams(self: Rc<Self>, socket: Rc<UdpSocket>) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let (length, peer) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!("dns: {error}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let Ok(permit) = self.questions.clone().try_acquire_owned() else { continue };
            let (server, socket, question) = (self.clone(), socket.clone(), buffer[..length].to_vec());
            spawn_local(async move {
                if let Some(answer) = server.answer(&question, Over::Udp).await
                    && let Err(error) = socket.send_to(&answer, peer).await
                {
                    tracing::debug!("dns: answer to {peer}: {error}");
                }
                drop(permit);
            });
        }
    }

    async fn connections(self: Rc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // Never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let server = self.clone();
                    spawn_local(async move {
                        if let Err(error) = server.connection(stream).await {
                            tracing::debug!("dns: connection of {peer}: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("dns: accept: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    // Questions one after the other until the client ends or says nothing.
    async fn connection(&self, mut stream: TcpStream) -> Result<()> {
        loop {
            let Ok(question) = timeout(SILENCE_MAX, read_framed(&mut stream)).await else { return Ok(()) };
            let Some(question) = question? else { return Ok(()) };
            let Some(answer) = self.answer(&question, Over::Tcp).await else { return Ok(()) };
            timeout(SILENCE_MAX, write_framed(&mut stream, &answer)).await.context("the client reads nothing")??;
        }
    }

    /// The answer to a question; `None`: it is not to be answered at all.
    pub async fn answer(&self, question: &[u8], over: Over) -> Option<Vec<u8>> {
        let asked = Message::from_vec(question).ok()?;
        if asked.metadata.message_type != MessageType::Query {
            return None;
        }
        if let Some(answer) = self.ours(&asked) {
            return encode(&asked, answer, over);
        }
        if let Some(answer) = self.beyond.as_ref().and_then(|beyond| beyond(question)) {
            return Some(answer);
        }
        for resolver in &self.resolvers {
            match timeout(RESOLVER_MAX, ask(*resolver, question, over)).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!("dns: resolver {resolver}: {error}"),
                Err(_) => tracing::debug!("dns: resolver {resolver} says nothing"),
            }
        }
        encode(&asked, refusal(&asked, ResponseCode::ServFail), over)
    }

    // Names of the mesh: both families are known, so a family without an address is an empty answer, never "no such name".
    fn ours(&self, asked: &Message) -> Option<Message> {
        if asked.metadata.op_code != OpCode::Query {
            return Some(refusal(asked, ResponseCode::NotImp));
        }
        let [query] = asked.queries.as_slice() else { return Some(refusal(asked, ResponseCode::FormErr)) };
        let wants_v4 = match query.query_type() {
            RecordType::A => true,
            RecordType::AAAA => false,
            _ => return None,
        };
        let name = query.name().to_ascii().to_ascii_lowercase();
        let book = self.book.borrow().clone();
        let found = book.find(name.trim_end_matches('.')).filter(|_| query.query_class() == DNSClass::IN)?;
        let mut answer = refusal(asked, ResponseCode::NoError);
        answer.metadata.authoritative = true;
        let owner = match found.alias_of.and_then(|real| Name::from_ascii(format!("{real}.")).ok()) {
            Some(real) => {
                let alias = RData::CNAME(rdata::CNAME(real.clone()));
                answer.add_answer(Record::from_rdata(query.name().clone(), TTL_SECONDS, alias));
                real
            }
            None => query.name().clone(),
        };
        let wanted = found.addresses.iter().filter(|address| address.is_ipv4() == wants_v4);
        let records = wanted.map(|address| match address {
            IpAddr::V4(v4) => RData::A((*v4).into()),
            IpAddr::V6(v6) => RData::AAAA((*v6).into()),
        });
        answer.add_answers(records.map(|data| Record::from_rdata(owner.clone(), TTL_SECONDS, data)));
        Some(answer)
    }
}

// An answer without records.
fn refusal(asked: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::error_msg(asked.metadata.id, asked.metadata.op_code, code);
    answer.add_queries(asked.queries.clone());
    answer.metadata.recursion_desired = asked.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer
}

// What does not fit is cut and marked, so that the client asks again over TCP (RFC 1035 4.2.1, RFC 6891 6.2.5).
fn encode(asked: &Message, answer: Message, over: Over) -> Option<Vec<u8>> {
    let bytes = answer.to_vec().ok()?;
    let fits = match &asked.edns {
        Some(edns) => usize::from(edns.max_payload()).clamp(ANSWER_DEFAULT, DATAGRAM_MAX),
        None => ANSWER_DEFAULT,
    };
    if over == Over::Tcp || bytes.len() <= fits {
        return Some(bytes);
    }
    answer.truncate().to_vec().ok()
}

// The same question to a resolver, over the same protocol.
async fn ask(resolver: SocketAddr, question: &[u8], over: Over) -> Result<Vec<u8>> {
    if over == Over::Tcp {
        let mut stream = TcpStream::connect(resolver).await?;
        write_framed(&mut stream, question).await?;
        return read_framed(&mut stream).await?.context("the connection ended");
    }
    let any: IpAddr = if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A socket of its own per question: its random port is part of what an attacker would have to guess.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // The id is the client's own; an answer to something else is not ours.
        if length >= 12 && question.len() >= 2 && buffer[..2] == question[..2] {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

// Two bytes of length, then the message (RFC 1035 4.2.2). `None`: the connection ended.
async fn read_framed(stream: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    let Ok(length) = u16::try_from(message.len()) else { bail!("a message of {} bytes", message.len()) };
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    Ok(stream.write_all(&framed).await?)
}

#[cfg(test)]
mod tests {
    use config::{NameInfo, NameTable};
    use hickory_resolver::proto::op::Query;

    use super::*;

    // A server on a free port that knows `many.example.com`, with so many addresses that no datagram holds them.
    async fn serving<T>(resolvers: &[SocketAddr], test: impl AsyncFnOnce(SocketAddr) -> T) -> T {
        let names = [("one.example.com", 1_u8), ("many.example.com", 200)].map(|(name, count)| {
            let addresses = (1..=count).map(|last| IpAddr::from([10, 0, 0, last])).collect();
            (name.to_owned(), NameInfo { addresses, ..NameInfo::default() })
        });
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = Server::new(free, resolvers);
        *server.book.borrow_mut() = Arc::new(Book::new(&NameTable { names: names.into() }, "default", Vec::new()));
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                server.listen(free).await.unwrap();
                test(free).await
            })
            .await
    }

    fn question(name: &str) -> Message {
        let mut asked = Message::new(7, MessageType::Query, OpCode::Query);
        asked.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        asked
    }

    async fn answer(server: SocketAddr, asked: &Message, over: Over) -> Message {
        Message::from_vec(&ask(server, &asked.to_vec().unwrap(), over).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn se33_an_answer_that_does_not_fit_is_cut_and_whole_over_tcp() {
        serving(&[], async |server| {
            let asked = question("many.example.com.");
            let cut = answer(server, &asked, Over::Udp).await;
            assert!(cut.metadata.truncation && cut.answers.is_empty());
            let whole = answer(server, &asked, Over::Tcp).await;
            assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 200));
        })
        .await;
    }

    #[tokio::test]
    async fn se33_without_resolvers_unknown_names_are_servfail() {
        serving(&[], async |server| {
            for over in [Over::Udp, Over::Tcp] {
                let said = answer(server, &question("unknown.example.com."), over).await;
                assert_eq!(said.metadata.response_code, ResponseCode::ServFail);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn se33_a_resolver_that_refuses_is_passed_over() {
        let answering = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let second = answering.local_addr().unwrap();
        let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        serving(&[gone, second], async |server| {
            let asked = question("elsewhere.example.com.");
            let resolver = async {
                let mut buffer = vec![0; DATAGRAM_MAX];
                let (length, peer) = answering.recv_from(&mut buffer).await.unwrap();
                let heard = Message::from_vec(&buffer[..length]).unwrap();
                answering.send_to(&refusal(&heard, ResponseCode::NXDomain).to_vec().unwrap(), peer).await.unwrap();
            };
            let (said, ()) = tokio::join!(answer(server, &asked, Over::Udp), resolver);
            assert_eq!(said.metadata.response_code, ResponseCode::NXDomain);
        })
        .await;
    }

    #[tokio::test]
    async fn se33_what_is_no_question_is_refused_and_the_next_one_answered() {
        serving(&[], async |server| {
            let mut two = question("one.example.com.");
            two.add_query(two.queries[0].clone());
            assert_eq!(answer(server, &two, Over::Udp).await.metadata.response_code, ResponseCode::FormErr);
            let mut update = question("one.example.com.");
            update.metadata.op_code = OpCode::Notify;
            assert_eq!(answer(server, &update, Over::Udp).await.metadata.response_code, ResponseCode::NotImp);
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.send_to(b"nonsense", server).await.unwrap();
            assert_eq!(answer(server, &question("ONE.example.com."), Over::Udp).await.answers.len(), 1);
        })
        .await;
    }
}
