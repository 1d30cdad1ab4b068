//! The gateway's process: recovery, the writer, the relays, and requests that pass the limiter and reach their rule. All
//! of it ends in a crash, and none of it but the disk is left.

use std::rc::Rc;

use tollgate_api::components::Component;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::Problem;
use tollgate_rules::limiter::{self, Verdict};
use tollgate_rules::settings::Settings;
use tollgate_rules::world::World;
use tollgate_rules::{campaigns, draws, forward, keys, links, quotas};
use tollgate_store::commit::StoreError;

use crate::buckets::SimBuckets;
use crate::bug::Bug;
use crate::coverage::Seen;
use crate::disk::State;
use crate::engine::Engine;
use crate::executor::Home;
use crate::postgres::{self, Gateway};
use crate::relay;
use crate::store::AnyStore;
use crate::tenure::Tenure;
use crate::world::{ADMIN, Sim, TOPICS};

/// The path of the request that installs the admin key, which the real process does when it starts.
pub const INSTALL: &str = "/install";

/// How far the clocks of gateways are from the true time at most, milliseconds.
pub const SKEW_MS: u64 = 150;

/// The gateway's process in a simulated world.
pub struct Server {
    pub sim: Rc<Sim>,
    /// Its place among the gateways.
    pub place: u8,
    /// How far its clock is from that of others, milliseconds.
    skew_ms: i64,
    pub store: AnyStore,
    buckets: SimBuckets,
    /// With what the rules remember there (keys of receipts): a crash forgets it.
    settings: Settings,
}

impl Server {
    pub async fn answer(&self, request: &Request) -> Response {
        let (sim, fresh) = (&self.sim, || self.sim.fresh());
        // A room opens by the store's clock, however far ahead that of a gateway is.
        let is_ahead = request.path.starts_with("/api/rooms/") && sim.one_of(200);
        let ahead = if is_ahead { sim.between(1, 1_000) } else { 0 };
        let world = World {
            store: &self.store,
            settings: &self.settings,
            now: self.wall_ms() + ahead,
            fresh: &fresh,
        };
        {
            let room = &mut sim.model.borrow_mut().room;
            room.latest = room.latest.max(world.now);
        }
        if request.path == INSTALL {
            return match keys::install_admin(&self.store, ADMIN, world.now).await {
                Ok(()) => Response::empty(204),
                Err(_) => Problem::from(StoreError::Unavailable("not installed".into())).into_response(),
            };
        }
        let added = match limiter::check(&world, &self.buckets, request).await {
            Verdict::Answer(response) => return response,
            Verdict::Admit(added) => added,
        };
        let response = self.respond(&world, request).await;
        let held = added.iter().find(|header| header.name == quotas::HELD);
        if let Some(key) = held.and_then(|held| std::str::from_utf8(&held.value).ok()) {
            sim.model.borrow_mut().quota.answered(key, response.status);
            if quotas::settle(&self.store, key, Some(response.status))
                .await
                .is_err()
            {
                sim.model.borrow_mut().quota.not_ended(key);
            }
        }
        response
    }

    async fn respond(&self, world: &World<'_, AnyStore>, request: &Request) -> Response {
        match self.settings.component(&request.path) {
            Component::Shortener if request.path.starts_with("/api/") => links::handle(world, request).await,
            Component::Shortener => {
                let visit = self.store.front().enter();
                let response = links::handle(world, request).await;
                self.store.front().leave(visit);
                response
            }
            Component::Coupon => campaigns::handle(world, request).await,
            Component::Forward => forward::handle(world, request).await,
            Component::Admin => Problem::not_found().into_response(),
        }
    }
}

impl Server {
    /// The process's wall clock, Unix milliseconds.
    pub fn wall_ms(&self) -> u64 {
        self.sim.wall_ms().saturating_add_signed(self.skew_ms)
    }

    /// A task of the process.
    pub fn spawn(&self, job: impl Future<Output = ()> + 'static) {
        self.sim.executor.spawn(Home::Process(self.place), job);
    }
}

/// Reads the disk and goes on from there; `false` if the disk failed again.
pub fn start(sim: &Rc<Sim>, place: u8) -> bool {
    campaigns::forget_pools();
    let limit = sim
        .setup
        .settings
        .config
        .quotas
        .iter()
        .map(|quota| quota.limit)
        .sum::<u64>();
    sim.model.borrow_mut().quota.limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let store = match sim.is_fleet() {
        true => AnyStore::Shared(Gateway::new(sim, place)),
        false => match recover(sim) {
            Some(state) => AnyStore::Embedded(Box::new(Engine::new(Rc::clone(sim), state))),
            None => return false,
        },
    };
    let shared = match &store {
        AnyStore::Shared(gateway) => Some(Rc::clone(gateway)),
        AnyStore::Embedded(_) => None,
    };
    let server = Rc::new(Server {
        sim: Rc::clone(sim),
        place,
        skew_ms: match sim.is_fleet() {
            true => i64::try_from(sim.below(2 * SKEW_MS)).unwrap_or(0) - SKEW_MS as i64,
            false => 0,
        },
        store,
        buckets: SimBuckets::new(Rc::clone(sim), shared),
        settings: sim.setup.settings.clone(),
    });
    match &server.store {
        AnyStore::Embedded(_) => server.spawn(write(Rc::clone(&server))),
        AnyStore::Shared(gateway) => gateway.run(&server),
    }
    if sim.sweeps {
        server.spawn(sweep(Rc::clone(&server)));
    }
    server.spawn(release(Rc::clone(&server)));
    for index in 0..TOPICS.len() {
        server.spawn(relay::run(Rc::clone(&server), index));
    }
    sim.set_server(place, Some(server));
    true
}

/// What is on the disk, if that can be made durable.
fn recover(sim: &Rc<Sim>) -> Option<State> {
    let mut disk = sim.disk.borrow_mut();
    if !sim.has(Bug::TrustPageCache) {
        disk.rewrite();
        if disk.is_dirty() && sim.fault(100) {
            disk.fail_to_sync(&mut || sim.bits() as u8);
            sim.saw(Seen::FailedRecoveries);
            return None;
        }
        disk.sync();
    }
    let mut state = disk.read();
    drop(disk);
    let recovered = sim.model.borrow_mut().recovered(&state, sim.executor.now());
    sim.note(|| format!("recovered revision {}: {recovered:?}", state.revision));
    match recovered {
        Ok(recovered) => {
            sim.saw_times(Seen::KeptWrites, recovered.kept);
            sim.saw_times(Seen::ClicksLost, recovered.clicks_lost);
        }
        Err(what) => sim.violated(|| what),
    }
    if sim.has(Bug::ForgetTurns) {
        state.entries.retain(|key, _| !key.starts_with("room-turns/"));
    }
    Some(state)
}

/// Writes until a sync fails; then somebody restarts the process.
async fn write(server: Rc<Server>) {
    let AnyStore::Embedded(engine) = &server.store else {
        return;
    };
    engine.write().await;
    let sim = Rc::clone(&server.sim);
    let failed = Rc::downgrade(&server);
    drop(server);
    let operator = Rc::clone(&sim);
    sim.executor.spawn(Home::World, async move {
        operator.executor.sleep(operator.between(1_000, 150_000)).await;
        let is_poisoned =
            |server: Rc<Server>| matches!(&server.store, AnyStore::Embedded(engine) if engine.is_poisoned());
        if failed.upgrade().is_some_and(is_poisoned) {
            let power = operator.one_of(400);
            crash(&operator, 0, power);
        }
    });
}

/// Puts messages that are due into their topics.
async fn release(server: Rc<Server>) {
    let sim = &server.sim;
    let tenure = Tenure::of_work(&server, "upkeep/delayed");
    loop {
        sim.executor.sleep(sim.between(20_000, 300_000)).await;
        if !tenure.has().await {
            continue;
        }
        let early = if sim.has(Bug::ComeEarly) { 60_000 } else { 0 };
        // What has failed is tried again.
        let _ =
            forward::delayed::release(&server.store, &server.settings.config, server.wall_ms() + early).await;
    }
}

/// Gives holds back that have ended, counts what was noted of visits, and removes links that have ended.
async fn sweep(server: Rc<Server>) {
    let sim = &server.sim;
    let tenure = Tenure::of_work(&server, "upkeep");
    loop {
        sim.executor.sleep(sim.between(50_000, 900_000)).await;
        if !tenure.has().await {
            continue;
        }
        let mut now = server.wall_ms();
        if sim.has(Bug::ExpireEarly) {
            now += 500;
        }
        // What has failed is tried again.
        let _ = campaigns::maintain(&server.store, now).await;
        let _ = links::stats::step(&server.store, &server.settings.config.links, now).await;
        let _ = links::maintain(&server.store, &server.settings.config, now).await;
        let _ = quotas::maintain(&server.store, server.wall_ms()).await;
        let _ = draws::maintain(&server.store, server.wall_ms()).await;
    }
}

/// The process ends where it stands; with `power`, the machine does.
pub fn crash(sim: &Rc<Sim>, place: u8, power: bool) {
    sim.note(|| match (power, sim.is_fleet()) {
        (_, true) => format!("gateway {place} is killed"),
        (true, false) => "the power fails".into(),
        (false, false) => "the process is killed".into(),
    });
    if sim.executor.stopped() == Some(Home::Process(place)) {
        sim.executor.stop(None);
    }
    let ended = sim.server(place);
    sim.set_server(place, None);
    sim.executor.kill(Home::Process(place));
    sim.saw(Seen::Crashes);
    if let Some(AnyStore::Shared(gateway)) = ended.as_ref().map(|ended| &ended.store) {
        return postgres::killed(sim, place, &gateway.name);
    }
    drop(ended);
    if sim.disk.borrow().is_dirty() {
        sim.saw(Seen::CrashesDuringSync);
    }
    if power {
        lose_power(sim);
    }
    let operator = Rc::clone(sim);
    sim.executor.spawn(Home::World, async move {
        loop {
            operator.executor.sleep(operator.between(500, 60_000)).await;
            if operator.fault(60) {
                lose_power(&operator);
            }
            if start(&operator, 0) {
                return;
            }
        }
    });
}

fn lose_power(sim: &Rc<Sim>) {
    sim.saw(Seen::PowerLosses);
    let accept_torn = sim.has(Bug::AcceptTornGroup);
    let damage = sim
        .disk
        .borrow_mut()
        .lose_power(accept_torn, &mut || sim.bits() as u8);
    sim.note(|| format!("{damage:?}"));
    sim.saw_times(Seen::LostWrites, damage.lost);
    sim.saw_times(Seen::TornWrites, damage.torn);
    sim.saw_times(Seen::ReorderedWrites, damage.reordered);
}
