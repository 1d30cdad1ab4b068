//! Questions to the database and their answers on the way: late, swallowed, or cut off in between.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::Gateway;
use super::transaction::{Answer, Session, Writes};
use crate::coverage::Seen;
use crate::executor::{Home, Parcel};
use crate::world::Sim;
use tollgate_store::plan::asked::Wanted;

/// How long a flight may take before its connection counts as lost, microseconds.
pub const FLIGHT: u64 = 6_000_000;

/// What a writer asks.
#[derive(Clone)]
pub enum Question {
    Look(Rc<Wanted>, (u64, u64)),
    Write(Rc<Writes>),
    Undo,
    MakeTopics(Vec<String>),
    MakeWriter,
    /// What a writer's row says.
    Own(u64),
}

/// One way between a gateway and the database; `false` if it does not come through.
pub async fn travel(sim: &Sim, place: u8) -> bool {
    sim.executor.sleep(sim.between(40, 700)).await;
    sim.database.is_reached(sim, place)
}

/// A connection, unless the database cannot be reached.
pub async fn connect(sim: &Rc<Sim>, place: u8) -> Option<Rc<Session>> {
    sim.executor.sleep(sim.between(200, 3_000)).await;
    if !sim.database.is_reached(sim, place) {
        return None;
    }
    let session = Rc::new(Session {
        place,
        life: sim.database.life.get(),
        is_lost: Cell::new(false),
        is_ended: Cell::new(false),
        asked: RefCell::default(),
        transaction: RefCell::default(),
    });
    let mut sessions = sim.database.sessions.borrow_mut();
    sessions.retain(|session| session.strong_count() > 0);
    sessions.push(Rc::downgrade(&session));
    Some(session)
}

/// Asks over a connection and waits for the answer.
pub async fn ask(sim: &Rc<Sim>, session: &Rc<Session>, question: Question) -> Answer {
    if session.is_lost.get() {
        return Answer::Cut;
    }
    let parcel = Parcel::new();
    *session.asked.borrow_mut() = Some(Rc::clone(&parcel));
    let (world, server_side, answer) = (Rc::clone(sim), Rc::clone(session), Rc::clone(&parcel));
    sim.executor.spawn(Home::World, async move {
        answer_to(&world, &server_side, question, &answer).await;
    });
    if sim.fault(12) {
        let (world, session) = (Rc::clone(sim), Rc::clone(session));
        sim.executor.spawn(Home::World, async move {
            world.executor.sleep(world.between(20, 5_000)).await;
            world.saw(Seen::ConnectionsCut);
            cut(&world, &session);
        });
    }
    match parcel.receive_within(&sim.executor, FLIGHT).await {
        Some(Answer::Cut) => {}
        Some(answer) => return answer,
        None => sim.saw(Seen::FlightsSilent),
    }
    cut(sim, session);
    Answer::Cut
}

async fn answer_to(sim: &Rc<Sim>, session: &Rc<Session>, question: Question, parcel: &Parcel<Answer>) {
    let place = session.place;
    if !travel(sim, place).await {
        return;
    }
    let database = &sim.database;
    let is_commit = matches!(question, Question::Write(_));
    let answer = match question {
        Question::Look(wanted, own) => database.look(sim, session, own, &wanted).await,
        Question::Write(writes) => database.write(sim, session, &writes).await,
        Question::Undo => {
            database.undo(sim, session);
            Answer::Done
        }
        Question::MakeTopics(topics) => {
            database.make_topics(&topics);
            Answer::Done
        }
        Question::MakeWriter => Answer::Number(Some(database.make_writer())),
        Question::Own(id) => database.own(sim, session, id).await,
    };
    if is_commit && sim.fault(20) {
        sim.saw(Seen::CommitRepliesLost);
        return cut(sim, session);
    }
    if travel(sim, place).await {
        parcel.send(&sim.executor, answer);
    }
}

/// A connection ends for the gateway; the database sees it later, and may carry out until then what is on its way.
pub fn cut(sim: &Rc<Sim>, session: &Rc<Session>) {
    if session.is_lost.replace(true) {
        return;
    }
    if let Some(asked) = session.asked.take() {
        asked.send(&sim.executor, Answer::Cut);
    }
    let (world, session) = (Rc::clone(sim), Rc::clone(session));
    sim.executor.spawn(Home::World, async move {
        let most = if world.one_of(100) { 3_000_000 } else { 5_000 };
        world.executor.sleep(world.between(20, most)).await;
        session.is_ended.set(true);
        world.database.undo(&world, &session);
    });
}

/// All connections of a gateway, or of all, end.
pub fn cut_all(sim: &Rc<Sim>, place: Option<u8>) {
    let sessions: Vec<_> = sim
        .database
        .sessions
        .borrow()
        .iter()
        .filter_map(std::rc::Weak::upgrade)
        .collect();
    for session in sessions {
        if place.is_none_or(|place| session.place == place) {
            cut(sim, &session);
        }
    }
}

impl Gateway {
    /// A question whose answer one statement gives, over a connection for reads; `None`: there was none in time.
    pub(super) async fn ask_for<T>(&self, look: impl FnOnce(&super::Database) -> T) -> Option<T> {
        let sim = &self.sim;
        let life = sim.database.life.get();
        if !travel(sim, self.place).await {
            sim.executor.sleep(sim.between(1_000, 400_000)).await;
            return None;
        }
        let slow = sim.is_on(&sim.weather.reads_until);
        if slow && sim.one_of(300) {
            sim.saw(Seen::StoreReadsFailed);
            return None;
        }
        let found = look(&sim.database);
        if slow && sim.one_of(300) || sim.fault(30) {
            sim.saw(Seen::SlowReads);
            let most = if sim.one_of(400) { 900_000 } else { 30_000 };
            sim.executor.sleep(sim.between(1_000, most)).await;
        }
        (travel(sim, self.place).await && sim.database.life.get() == life).then_some(found)
    }
}
