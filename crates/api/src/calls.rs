//! The calls that the gateway answers, in one table: method, path, component, access, and marks. A component
//! finds its call here, so a call that is not listed is never answered. From it come the routes of
//! `spin.toml` and the reserved words; tests hold to it the routing, the hot path, `robots.txt` and the table
//! of `SECURITY.md`.
//!
//! A path without parameters comes before one that it would be an example of, and hides it.
//!
//! Not listed: the paths that `[[forward]]` adds. `HEAD` goes wherever `GET` does.

mod owner;
mod spin;

pub use owner::component;
pub use spin::{StaleRoutes, built_forwards, spin_routes};

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::components::Component;
use crate::http::Request;
use crate::problem::Problem;

/// The most parameters of a path.
pub const MAX_PARAMETERS: usize = 2;

/// The values of a path's parameters, in order, still percent-encoded and never empty; `""` beyond their
/// number.
pub type Parameters<'r> = [&'r str; MAX_PARAMETERS];

/// A scope of an API key: the calls that it allows. `Admin` allows all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything.
    Admin,
    /// Links.
    Links,
    /// Campaigns.
    Campaigns,
    /// Topics.
    Topics,
    /// The metrics.
    Metrics,
    /// Rate limits.
    Limits,
}

/// The callers that a call is open to: its row in the table of `SECURITY.md`, which a test asserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody; credentials are not looked at.
    Anyone,
    /// An API key with this scope.
    Key(Scope),
    /// An API key with this scope, or a client that names itself.
    KeyOrClient(Scope),
    /// Any API key, or a client that names itself.
    AnyKeyOrClient,
    /// The key that made the link, the holder of its manage token, or an admin.
    Owner,
    /// The client that posted the message, or an API key with this scope.
    SenderOrKey(Scope),
    /// Any user.
    User,
    /// The user that it is about, or an API key with this scope.
    UserOrKey(Scope),
    /// Any API key.
    AnyKey,
    /// A trusted proxy.
    Proxy,
    /// Who is logged in at the dashboard.
    Session,
}

/// A further property of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// A crowd makes it.
    Hot,
    /// It takes a body.
    Body,
    /// It takes one that is larger than others; see [`max_body`].
    Bulk,
    /// Our host answers it by itself; see [`Call::native`].
    Native,
    /// So, and no rule answers it: it lives in the memory of one process, or is sent to somebody else.
    HostOnly,
}

macro_rules! calls {
    ($($(#[doc = $doc:literal])* $name:ident = $component:ident $method:literal $path:literal $access:expr $(, $mark:ident)*;)*) => {
        /// A call of the HTTP contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Call { $($(#[doc = $doc])* $name,)* }

        impl Call {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Call] = &[$(Call::$name,)*];

            /// The component that answers it.
            pub const fn component(self) -> Component { match self { $(Call::$name => Component::$component,)* } }
            /// Its method; `GET` stands for `HEAD` too.
            pub const fn method(self) -> &'static str { match self { $(Call::$name => $method,)* } }
            /// Its path; a segment `:name` is a parameter.
            pub const fn path(self) -> &'static str { match self { $(Call::$name => $path,)* } }
            /// Its name here, as `CreateLink`; see also [`Call::summary`].
            pub const fn name(self) -> &'static str { match self { $(Call::$name => stringify!($name),)* } }
            /// What it does, in a sentence; begins with a space.
            pub const fn summary(self) -> &'static str { match self { $(Call::$name => concat!($($doc),*),)* } }
            /// The callers that it is open to.
            pub const fn access(self) -> Access { match self { $(Call::$name => $access,)* } }
            const fn marks(self) -> &'static [Mark] { match self { $(Call::$name => &[$(Mark::$mark,)*],)* } }
        }
    };
}

use Access::{
    AnyKey, AnyKeyOrClient, Anyone, Key, KeyOrClient, Owner, Proxy, SenderOrKey, Session, User, UserOrKey,
};
use Scope::{Admin, Campaigns, Limits, Links, Metrics, Topics};

calls! {
    /// The redirect, and with a `+` behind the code the page that shows where it leads.
    FollowLink = Shortener "GET" "/:code" Anyone, Hot;
    /// The button of the page that machines get instead of a numbered link, or the password of a link: a visit, and the redirect. A link that keeps methods (307, 308) passes on any other.
    OpenLink = Shortener "POST" "/:code" Anyone, Body;
    /// The redirect of a link that keeps methods (307, 308).
    FollowLinkByPut = Shortener "PUT" "/:code" Anyone;
    /// The same.
    FollowLinkByPatch = Shortener "PATCH" "/:code" Anyone;
    /// The same.
    FollowLinkByDelete = Shortener "DELETE" "/:code" Anyone;
    /// The caller's links; an admin sees all.
    ListLinks = Shortener "GET" "/api/links" Key(Links);
    /// A new link.
    CreateLink = Shortener "POST" "/api/links" KeyOrClient(Links), Body;
    /// The links that are visited most.
    ListTopLinks = Shortener "GET" "/api/links/top" Key(Links), HostOnly;
    /// The visits of the caller's links together, by time or by what they came with.
    ReadLinksStats = Shortener "GET" "/api/links/stats" Key(Links);
    /// The newest visits to codes that no link has.
    ListOrphans = Shortener "GET" "/api/links/orphans" Key(Admin);
    /// Forgets them.
    DeleteOrphans = Shortener "DELETE" "/api/links/orphans" Key(Admin);
    /// New links, up to 1,000.
    CreateLinks = Shortener "POST" "/api/links/bulk" Key(Links), Body, Bulk;
    /// Changes many links.
    EditLinks = Shortener "PATCH" "/api/links/bulk" Key(Links), Body, Bulk;
    /// Removes many links.
    DeleteLinks = Shortener "DELETE" "/api/links/bulk" Key(Links), Body, Bulk;
    /// Makes links that were made without a key the caller's.
    ClaimLinks = Shortener "POST" "/api/links/claim" Key(Links), Body;
    /// One link.
    ReadLink = Shortener "GET" "/api/links/:code" Owner;
    /// The link as it is sent, made where there is none.
    PutLink = Shortener "PUT" "/api/links/:code" Owner, Body;
    /// Changes a link.
    EditLink = Shortener "PATCH" "/api/links/:code" Owner, Body;
    /// Removes a link.
    DeleteLink = Shortener "DELETE" "/api/links/:code" Owner;
    /// A link's short address as a QR code.
    DrawLink = Shortener "GET" "/api/links/:code/qr" Owner;
    /// A link's visits, by time or by what they came with.
    ReadLinkStats = Shortener "GET" "/api/links/:code/stats" Owner;
    /// A link's newest visits.
    ListVisits = Shortener "GET" "/api/links/:code/visits" Owner;
    /// Forgets them; what they were counted as stays.
    DeleteVisits = Shortener "DELETE" "/api/links/:code/visits" Owner;
    /// Moves a link's end.
    ExtendLink = Shortener "POST" "/api/links/:code/extend" Owner, Body;
    /// The caller's links, as Dub lists them.
    DubListLinks = Shortener "GET" "/api/dub/links" Key(Links);
    /// A new link, as Dub makes one.
    DubCreateLink = Shortener "POST" "/api/dub/links" Key(Links), Body;
    /// The caller's link to a URL, changed or made, as Dub does.
    DubUpsertLink = Shortener "PUT" "/api/dub/links/upsert" Key(Links), Body;
    /// Many new links, as Dub makes them.
    DubCreateLinks = Shortener "POST" "/api/dub/links/bulk" Key(Links), Body, Bulk;
    /// Changes many links, as Dub does.
    DubEditLinks = Shortener "PATCH" "/api/dub/links/bulk" Key(Links), Body, Bulk;
    /// Removes many links, as Dub does.
    DubDeleteLinks = Shortener "DELETE" "/api/dub/links/bulk" Key(Links), Bulk;
    /// How many links the caller has, as Dub counts them.
    DubCountLinks = Shortener "GET" "/api/dub/links/count" Key(Links);
    /// One link, as Dub shows it.
    DubReadLink = Shortener "GET" "/api/dub/links/info" Key(Links);
    /// Changes a link, as Dub does.
    DubEditLink = Shortener "PATCH" "/api/dub/links/:link" Key(Links), Body;
    /// Removes a link, as Dub does.
    DubDeleteLink = Shortener "DELETE" "/api/dub/links/:link" Key(Links);
    /// What clients of YOURLS ask for; `action` says what.
    AskYourls = Admin "GET" "/yourls-api.php" Key(Links);
    /// The same as a form.
    PostYourls = Admin "POST" "/yourls-api.php" Key(Links), Body;
    /// Whether it runs, for clients of Shlink.
    ShlinkHealth = Shortener "GET" "/rest/v3/health" Anyone;
    /// The same at an address without a version.
    ShlinkHealthUnversioned = Shortener "GET" "/rest/health" Anyone;
    /// The caller's links, as Shlink lists them.
    ShlinkListUrls = Shortener "GET" "/rest/v3/short-urls" Key(Links);
    /// A new link, as Shlink makes one.
    ShlinkCreateUrl = Shortener "POST" "/rest/v3/short-urls" Key(Links), Body;
    /// One link, as Shlink shows it.
    ShlinkReadUrl = Shortener "GET" "/rest/v3/short-urls/:code" Owner;
    /// Changes a link, as Shlink does.
    ShlinkEditUrl = Shortener "PATCH" "/rest/v3/short-urls/:code" Owner, Body;
    /// Removes a link, as Shlink does.
    ShlinkDeleteUrl = Shortener "DELETE" "/rest/v3/short-urls/:code" Owner;
    /// A link's rules, as Shlink shows them.
    ShlinkReadRules = Shortener "GET" "/rest/v3/short-urls/:code/redirect-rules" Owner;
    /// Sets a link's rules, as Shlink does.
    ShlinkSetRules = Shortener "POST" "/rest/v3/short-urls/:code/redirect-rules" Owner, Body;
    /// A link's newest visits, as Shlink lists them.
    ShlinkUrlVisits = Shortener "GET" "/rest/v3/short-urls/:code/visits" Owner;
    /// Forgets them.
    ShlinkDeleteUrlVisits = Shortener "DELETE" "/rest/v3/short-urls/:code/visits" Owner;
    /// The newest visits of links with a tag.
    ShlinkTagVisits = Shortener "GET" "/rest/v3/tags/:tag/visits" Key(Links);
    /// The newest visits of the links of a domain.
    ShlinkDomainVisits = Shortener "GET" "/rest/v3/domains/:domain/visits" Key(Links);
    /// The newest visits of the caller's links.
    ShlinkVisits = Shortener "GET" "/rest/v3/visits/non-orphan" Key(Links);
    /// The newest visits to codes that no link has.
    ShlinkOrphans = Shortener "GET" "/rest/v3/visits/orphan" Key(Admin);
    /// Forgets them.
    ShlinkDeleteOrphans = Shortener "DELETE" "/rest/v3/visits/orphan" Key(Admin);
    /// How many visits there were.
    ShlinkOverview = Shortener "GET" "/rest/v3/visits" Key(Links);
    /// The tags of the caller's links.
    ShlinkTags = Shortener "GET" "/rest/v3/tags" Key(Links);
    /// The same with their links and visits.
    ShlinkTagStats = Shortener "GET" "/rest/v3/tags/stats" Key(Links);
    /// Gives a tag another name.
    ShlinkRenameTag = Shortener "PUT" "/rest/v3/tags" Key(Links), Body;
    /// Takes tags off links.
    ShlinkDeleteTags = Shortener "DELETE" "/rest/v3/tags" Key(Links);
    /// The domains of links.
    ShlinkDomains = Shortener "GET" "/rest/v3/domains" Key(Links);
    /// Refused: where domains lead is in the configuration.
    ShlinkDomainRedirects = Shortener "PATCH" "/rest/v3/domains/redirects" Key(Links), Body;
    /// Refused: there are no live updates.
    ShlinkMercure = Shortener "GET" "/rest/v3/mercure-info" Key(Links);
    /// All campaigns.
    ListCampaigns = Coupon "GET" "/api/campaigns" Key(Campaigns);
    /// A new campaign.
    CreateCampaign = Coupon "POST" "/api/campaigns" Key(Campaigns), Body;
    /// One campaign with its counters.
    ReadCampaign = Coupon "GET" "/api/campaigns/:id" Anyone;
    /// Changes or closes a campaign.
    EditCampaign = Coupon "PATCH" "/api/campaigns/:id" Key(Campaigns), Body;
    /// Removes a campaign.
    DeleteCampaign = Coupon "DELETE" "/api/campaigns/:id" Key(Campaigns);
    /// Says who may claim.
    PutEligible = Coupon "PUT" "/api/campaigns/:id/eligible" Key(Campaigns), Body, Bulk;
    /// Imports codes that claims carry.
    ImportCodes = Coupon "POST" "/api/campaigns/:id/codes" Key(Campaigns), Body, Bulk;
    /// A campaign's claims.
    ListClaims = Coupon "GET" "/api/campaigns/:id/claims" Key(Campaigns);
    /// What the user's claim would be answered now.
    CheckClaim = Coupon "GET" "/api/campaigns/:id/claims/eligibility" User;
    /// The user's claim.
    Claim = Coupon "POST" "/api/campaigns/:id/claims" User, Hot;
    /// A place in line, where all units are taken.
    JoinWaitlist = Coupon "POST" "/api/campaigns/:id/waitlist" User, Body;
    /// The user's place in line.
    ReadWaitlist = Coupon "GET" "/api/campaigns/:id/waitlist" User;
    /// Gives the user's place in line up.
    LeaveWaitlist = Coupon "DELETE" "/api/campaigns/:id/waitlist" User;
    /// A user's claims.
    ReadClaims = Coupon "GET" "/api/campaigns/:id/claims/:user" UserOrKey(Campaigns);
    /// Makes a claim that is held the user's for good.
    ConfirmClaim = Coupon "POST" "/api/campaigns/:id/claims/:claim/confirm" UserOrKey(Campaigns), Hot;
    /// Gives a claim that is held back.
    ReleaseClaim = Coupon "POST" "/api/campaigns/:id/claims/:claim/release" UserOrKey(Campaigns), Hot;
    /// Takes a claim back.
    RevokeClaim = Coupon "POST" "/api/campaigns/:id/claims/:claim/revoke" Key(Campaigns);
    /// All draws.
    ListDraws = Coupon "GET" "/api/draws" Key(Campaigns);
    /// A new draw.
    CreateDraw = Coupon "POST" "/api/draws" Key(Campaigns), Body;
    /// One draw, and what was drawn.
    ReadDraw = Coupon "GET" "/api/draws/:id" Anyone;
    /// The user's entry.
    Enter = Coupon "POST" "/api/draws/:id/entries" User, Hot;
    /// Closes a draw and draws it.
    Draw = Coupon "POST" "/api/draws/:id/draw" Key(Campaigns);
    /// A user's entries, and what they have won.
    ReadEntries = Coupon "GET" "/api/draws/:id/entries/:user" UserOrKey(Campaigns);
    /// That a user's entries are in the draw.
    ProveEntries = Coupon "GET" "/api/draws/:id/entries/:user/proof" UserOrKey(Campaigns);
    /// All waiting rooms.
    ListRooms = Coupon "GET" "/api/rooms" Key(Campaigns);
    /// One of them: how many wait, and how many were admitted.
    ReadRoom = Coupon "GET" "/api/rooms/:name" Anyone;
    /// Makes or changes one.
    PutRoom = Coupon "PUT" "/api/rooms/:name" Key(Campaigns), Body;
    /// Removes one.
    DeleteRoom = Coupon "DELETE" "/api/rooms/:name" Key(Campaigns);
    /// Admits nobody for a while; everybody keeps their place.
    PauseRoom = Coupon "POST" "/api/rooms/:name/pause" Key(Campaigns);
    /// Goes on with it.
    ResumeRoom = Coupon "POST" "/api/rooms/:name/resume" Key(Campaigns);
    /// Admits faster or slower from now on.
    PaceRoom = Coupon "POST" "/api/rooms/:name/pace" Key(Campaigns), Body;
    /// A place in the line of a room.
    DrawTicket = Coupon "POST" "/api/rooms/:name/tickets" Anyone, Hot;
    /// Where its holder stands, and the token of who is admitted.
    ReadTicket = Coupon "GET" "/api/rooms/:name/tickets/:ticket" Anyone, Hot;
    /// A new challenge, to be solved before a path answers.
    ReadChallenge = Coupon "GET" "/api/challenges/:name" Anyone;
    /// Checks a receipt.
    VerifyReceipt = Coupon "POST" "/api/receipts/verify" Anyone, Body;
    /// The public keys of receipts.
    ReadReceiptKeys = Coupon "GET" "/api/receipts/keys" Anyone;
    /// A new key for receipts.
    RotateReceiptKey = Coupon "POST" "/api/receipts/keys" Key(Admin);
    /// All topics.
    ListTopics = Forward "GET" "/api/topics" Key(Topics);
    /// One topic.
    ReadTopic = Forward "GET" "/api/topics/:topic" Key(Topics);
    /// Deletes a topic with its messages.
    DeleteTopic = Forward "DELETE" "/api/topics/:topic" Key(Topics);
    /// A topic's messages.
    ReadMessages = Forward "GET" "/api/topics/:topic/messages" Key(Topics);
    /// A request as a message.
    PostMessage = Forward "POST" "/api/topics/:topic/messages" AnyKeyOrClient, Body;
    /// The delivery of a message.
    ReadMessage = Forward "GET" "/api/messages/:id" SenderOrKey(Topics);
    /// A topic's push subscriptions.
    ListSubscriptions = Forward "GET" "/api/topics/:topic/subscriptions" Key(Topics);
    /// One of them.
    ReadSubscription = Forward "GET" "/api/topics/:topic/subscriptions/:name" Key(Topics);
    /// Makes or changes one.
    PutSubscription = Forward "PUT" "/api/topics/:topic/subscriptions/:name" Key(Topics), Body;
    /// Removes one.
    DeleteSubscription = Forward "DELETE" "/api/topics/:topic/subscriptions/:name" Key(Topics);
    /// Stops deliveries.
    PauseSubscription = Forward "POST" "/api/topics/:topic/subscriptions/:name/pause" Key(Topics);
    /// Goes on with them.
    ResumeSubscription = Forward "POST" "/api/topics/:topic/subscriptions/:name/resume" Key(Topics);
    /// Sends again to an origin that was left alone.
    ResetBreaker = Forward "POST" "/api/topics/:topic/subscriptions/:name/reset-breaker" Key(Topics);
    /// Sends one sample at once.
    TestSubscription = Forward "POST" "/api/topics/:topic/subscriptions/:name/test" Key(Topics), HostOnly;
    /// Tries at once what waits for another attempt.
    RetryNow = Forward "POST" "/api/topics/:topic/subscriptions/:name/retry-now" Key(Topics);
    /// Delivers messages of the past again.
    Replay = Forward "POST" "/api/topics/:topic/subscriptions/:name/replay" Key(Topics), Body;
    /// Messages that an origin did not take.
    ListDeadLetters = Forward "GET" "/api/topics/:topic/subscriptions/:name/dead-letters" Key(Topics);
    /// Removes dead letters.
    DeleteDeadLetters = Forward "DELETE" "/api/topics/:topic/subscriptions/:name/dead-letters" Key(Topics), Body;
    /// Delivers dead letters again.
    Redrive = Forward "POST" "/api/topics/:topic/subscriptions/:name/dead-letters/redrive" Key(Topics), Body;
    /// A topic's consumer groups.
    ListGroups = Forward "GET" "/api/topics/:topic/groups" Key(Topics);
    /// One of them.
    ReadGroup = Forward "GET" "/api/topics/:topic/groups/:group" Key(Topics);
    /// Makes or changes one.
    PutGroup = Forward "PUT" "/api/topics/:topic/groups/:group" Key(Topics), Body;
    /// Removes one.
    DeleteGroup = Forward "DELETE" "/api/topics/:topic/groups/:group" Key(Topics);
    /// Leases messages to the caller.
    LeaseMessages = Forward "POST" "/api/topics/:topic/groups/:group/lease" Key(Topics), Body;
    /// Leased messages are done.
    AckMessages = Forward "POST" "/api/topics/:topic/groups/:group/ack" Key(Topics), Body;
    /// Gives leased messages back.
    NackMessages = Forward "POST" "/api/topics/:topic/groups/:group/nack" Key(Topics), Body;
    /// Keeps leased messages for longer.
    ExtendLeases = Forward "POST" "/api/topics/:topic/groups/:group/extend" Key(Topics), Body;
    /// Messages that were leased as often as they may be.
    ListGroupDeadLetters = Forward "GET" "/api/topics/:topic/groups/:group/dead-letters" Key(Topics);
    /// Removes them.
    DeleteGroupDeadLetters = Forward "DELETE" "/api/topics/:topic/groups/:group/dead-letters" Key(Topics), Body;
    /// Leases them again.
    RedriveGroup = Forward "POST" "/api/topics/:topic/groups/:group/dead-letters/redrive" Key(Topics), Body;
    /// What consumers and senders that speak SQS ask for; `X-Amz-Target` says what.
    AskSqs = Forward "POST" "/sqs" Key(Topics), Body;
    /// The same at the address of a queue, where some clients send it.
    AskSqsQueue = Forward "POST" "/sqs/:topic/:group" Key(Topics), Body;
    /// Delivers what is due, where nothing runs between requests.
    Tick = Admin "POST" "/api/relay/tick" Key(Topics);
    /// The same, for schedulers that send nothing but a `GET`.
    TickByGet = Admin "GET" "/api/relay/tick" Key(Topics);
    /// All API keys, without their text.
    ListKeys = Admin "GET" "/api/keys" Key(Admin);
    /// A new API key.
    CreateKey = Admin "POST" "/api/keys" Key(Admin), Body;
    /// Removes an API key.
    DeleteKey = Admin "DELETE" "/api/keys/:id" Key(Admin);
    /// A new secret for an API key, which keeps its id and all that it owns.
    RotateKey = Admin "POST" "/api/keys/:id/rotate" Key(Admin), Body;
    /// The rate limits in force.
    ListLimits = Admin "GET" "/api/limits" Key(Limits);
    /// The overrides in force.
    ListOverrides = Admin "GET" "/api/limits/overrides" Key(Limits);
    /// What limits have refused, and whom most.
    ListRefusals = Admin "GET" "/api/limits/refusals" Key(Limits), HostOnly;
    /// What a client has left, without charging it.
    ReadClientLimits = Admin "GET" "/api/limits/clients/:client" Key(Limits);
    /// Grants a client something else than a limit's own terms, from now on.
    PutOverride = Admin "PUT" "/api/limits/clients/:client" Key(Limits), Body;
    /// Ends what a client is granted, and fills its buckets.
    RefillClient = Admin "DELETE" "/api/limits/clients/:client" Key(Limits);
    /// All access lists.
    ListAccess = Admin "GET" "/api/access" Key(Limits);
    /// One of them.
    ReadAccess = Admin "GET" "/api/access/:name" Key(Limits);
    /// Makes or changes one.
    PutAccess = Admin "PUT" "/api/access/:name" Key(Limits), Body;
    /// Removes one.
    DeleteAccess = Admin "DELETE" "/api/access/:name" Key(Limits);
    /// Judges a request that another server was sent: whether it may go on.
    Check = Admin "GET" "/api/check" Proxy;
    /// The gateway's own events as they happen, as server-sent events.
    WatchEvents = Admin "GET" "/api/events" Key(Admin), HostOnly;
    /// The public keys of receipts, where others look for them.
    ReadJwks = Admin "GET" "/.well-known/jwks.json" Anyone;
    /// Whether the process runs.
    HealthLive = Admin "GET" "/health/live" Anyone, Native;
    /// Whether requests can be answered.
    HealthReady = Admin "GET" "/health/ready" Anyone, Native;
    /// What the gateway counts. Open to others too where `[metrics] access` says so.
    Metrics = Admin "GET" "/metrics" Key(Metrics), HostOnly;
    /// Rules for crawlers.
    Robots = Admin "GET" "/robots.txt" Anyone;
    /// The icon of the gateway's pages.
    Icon = Admin "GET" "/favicon.ico" Anyone;
    /// For a browser, a page that says what this is.
    Welcome = Admin "GET" "/" Anyone, HostOnly;
    /// The page of the dashboard.
    Dashboard = Admin "GET" "/admin" Anyone, HostOnly;
    /// A file that the page is made of.
    DashboardFile = Admin "GET" "/admin/assets/:file" Anyone, HostOnly;
    /// Logs in at the dashboard.
    LogIn = Admin "POST" "/admin/session" AnyKey, HostOnly;
    /// Who is logged in.
    ReadSession = Admin "GET" "/admin/session" Session, HostOnly;
    /// Logs out.
    LogOut = Admin "DELETE" "/admin/session" Session, HostOnly;
    /// The live numbers, as server-sent events.
    WatchNumbers = Admin "GET" "/admin/events" Session, HostOnly;
    /// The configuration in force, without secrets. Scope `admin`.
    ReadConfiguration = Admin "GET" "/admin/configuration" Session, HostOnly;
    /// The OpenAPI document of all calls.
    OpenApi = Admin "GET" "/openapi.json" Anyone;
    /// The same as a page, on which calls can be tried.
    Docs = Admin "GET" "/docs" Anyone;
}

/// First segments of paths that are the gateway's own: those of calls.
static OWN: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let literal = |call: &Call| {
        call.path()
            .split('/')
            .nth(1)
            .filter(|first| !first.starts_with(':') && !first.is_empty())
    };
    let mut own = Vec::new();
    for first in Call::ALL.iter().filter_map(literal) {
        if !own.contains(&first) {
            own.push(first);
        }
    }
    own
});

/// First segments of paths that are the gateway's own; compared without regard to case.
pub fn own_segments() -> impl Iterator<Item = &'static str> {
    OWN.iter().copied()
}

impl Call {
    fn has(self, mark: Mark) -> bool {
        self.marks().contains(&mark)
    }

    /// Whether a crowd makes it.
    pub fn is_hot(self) -> bool {
        self.has(Mark::Hot)
    }

    /// Whether it takes a body.
    pub fn has_body(self) -> bool {
        self.has(Mark::Body)
    }

    /// Whether it takes a larger body than others.
    pub fn is_bulk(self) -> bool {
        self.has(Mark::Bulk)
    }

    /// Whether our host answers it by itself, before the limiter and without a component, since only it knows how it is, or
    /// who is logged in.
    pub fn is_native(self) -> bool {
        self.has(Mark::Native) || self.is_host_only()
    }

    /// Whether it changes what is set over the API and has to be in force when it is answered.
    pub fn is_in_force_when_answered(self) -> bool {
        matches!(
            self,
            Self::PutOverride
                | Self::RefillClient
                | Self::PutAccess
                | Self::DeleteAccess
                | Self::PutRoom
                | Self::DeleteRoom
        )
    }

    /// Whether no rule answers it: unless an adapter does, it is not found.
    pub fn is_host_only(self) -> bool {
        self.has(Mark::HostOnly)
    }

    /// The call that our host answers by itself, and its parameters; `None` where the rules answer.
    ///
    /// # Errors
    /// 405 with `Allow`: the path is of such calls, the method is not.
    pub fn native<'r>(method: &str, path: &'r str) -> Option<Result<(Call, Parameters<'r>), Problem>> {
        if !may_be_native(path) {
            return None;
        }
        match matching(method, path, Call::is_native) {
            Found::Call(call, parameters) => Some(Ok((call, parameters))),
            Found::Methods(allowed) => Some(Err(Problem::method_not_allowed(&allowed))),
            Found::Nothing => None,
        }
    }

    /// Whether a path is one that tells of our health, which is never limited.
    pub fn is_health(path: &str) -> bool {
        path == Call::HealthLive.path() || path == Call::HealthReady.path()
    }

    /// Whether it takes this method.
    pub fn takes(self, method: &str) -> bool {
        self.method() == method || (self.method() == "GET" && method == "HEAD")
    }

    /// The parameters of a path of these segments, if it is this call's: as many as are expected.
    fn parameters<'r>(expected: &[&str], segments: &[&'r str]) -> Option<Parameters<'r>> {
        let mut found = [""; MAX_PARAMETERS];
        let mut free = found.iter_mut();
        for (expected, &segment) in expected.iter().zip(segments) {
            if !expected.starts_with(':') {
                if segment != *expected {
                    return None;
                }
            } else if segment.is_empty() {
                return None;
            } else {
                *free.next()? = segment;
            }
        }
        Some(found)
    }
}

/// How the paths end to which a crowd posts, where the component is [`Component::Coupon`].
const HOT_ENDS: &[&str] = &["/claims", "/entries", "/tickets", "/confirm", "/release"];

/// Whether a crowd makes the call that a request may be, where this is its path's component: a hot call, or a configured
/// route. A few comparisons, since every request is asked; a test holds them to [`Call::is_hot`].
pub fn is_hot(component: Component, method: &str, path: &str) -> bool {
    match component {
        // What a form sends may be a password, which is work. What others send is not read.
        Component::Shortener => {
            matches!(method, "GET" | "HEAD") && !path.starts_with("/api/") && !path.starts_with("/rest/")
        }
        Component::Forward => !path.starts_with("/api/") && !is_sqs(path),
        Component::Coupon => match method {
            "POST" => HOT_ENDS.iter().any(|end| path.ends_with(end)),
            "GET" | "HEAD" => path.starts_with("/api/rooms/") && path.contains("/tickets/"),
            _ => false,
        },
        Component::Admin => false,
    }
}

/// Whether a path is one at which SQS is spoken.
pub fn is_sqs(path: &str) -> bool {
    let rest = path.strip_prefix("/sqs");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The most bytes of the body of a call about many things.
pub const MAX_BULK_BODY: u64 = 1 << 20;

/// Whether a request is about many things: comparisons, which a test holds to [`Call::is_bulk`].
pub fn is_bulk(path: &str) -> bool {
    matches!(path, "/api/links/bulk" | "/api/dub/links/bulk")
        || ((path.ends_with("/eligible") || path.ends_with("/codes")) && path.starts_with("/api/campaigns/"))
}

/// The most bytes that the body of a request may have, where those of others may have `usual`.
pub fn max_body(path: &str, usual: u64) -> u64 {
    match is_bulk(path) {
        true => usual.max(MAX_BULK_BODY),
        false => usual,
    }
}

/// The most segments of a call's path, the empty one before the first slash included.
const MAX_SEGMENTS: usize = 8;

/// A call, and what its path is compared by.
struct Pattern {
    call: Call,
    segments: Vec<&'static str>,
    /// The [`marks`] of a path that may be this one, under `mask`: one comparison leaves out nearly all of the others.
    marks: u32,
    mask: u32,
}

/// Of the third segment and the last, in which the paths of our calls differ most: length and first byte of each.
fn marks(segments: &[&str]) -> u32 {
    let mark = |segment: Option<&&str>| {
        let segment = segment.map_or(&[][..], |segment| segment.as_bytes());
        (segment.len() as u32 & 0xff) << 8 | u32::from(segment.first().copied().unwrap_or_default())
    };
    mark(segments.get(2)) << 16 | mark(segments.last())
}

impl Pattern {
    fn of(call: Call) -> Self {
        let segments: Vec<_> = call.path().split('/').collect();
        let mask = |segment: Option<&&str>| match segment {
            Some(segment) if segment.starts_with(':') => 0,
            _ => 0xffff,
        };
        let mask = mask(segments.get(2)) << 16 | mask(segments.last());
        Self {
            call,
            marks: marks(&segments) & mask,
            mask,
            segments,
        }
    }
}

/// Every call, taken apart once, by the number of its path's segments: few of all calls have as many as a request's path.
static CALLS: LazyLock<[Vec<Pattern>; MAX_SEGMENTS + 1]> = LazyLock::new(|| {
    let mut by_count = [const { Vec::new() }; MAX_SEGMENTS + 1];
    for pattern in Call::ALL.iter().copied().map(Pattern::of) {
        if let Some(patterns) = by_count.get_mut(pattern.segments.len()) {
            patterns.push(pattern);
        }
    }
    by_count
});

/// The only segment of a path that has one segment: a code. One trailing slash does not count.
pub fn one_segment(path: &str) -> Option<&str> {
    let rest = path.strip_prefix('/')?;
    // By bytes: a path is short, and to look for a character takes longer to begin with.
    match rest.bytes().position(|byte| byte == b'/') {
        None => Some(rest).filter(|segment| !segment.is_empty()),
        Some(slash) if slash > 0 && slash + 1 == rest.len() => rest.get(..slash),
        Some(_) => None,
    }
}

/// Whether a native call may have this path. A few comparisons, since every request is asked; a test holds them to
/// [`Call::is_native`].
fn may_be_native(path: &str) -> bool {
    path == "/"
        || path.starts_with("/health/")
        || path.starts_with("/admin")
        || path == "/metrics"
        || path == "/api/events"
        || path == "/api/links/top"
        || path == "/api/limits/refusals"
        || (path.ends_with("/test") && path.starts_with("/api/topics/"))
}

/// The call of `component` that the request makes, and its parameters.
///
/// # Errors
/// 404 for a path that no call has; 405 with `Allow` for a method that none of the path's calls has.
pub fn find(component: Component, request: &Request) -> Result<(Call, Parameters<'_>), Problem> {
    find_call(component, &request.method, &request.path)
}

/// The same of a method and a path.
///
/// # Errors
/// As [`find`].
pub fn find_call<'r>(
    component: Component,
    method: &str,
    path: &'r str,
) -> Result<(Call, Parameters<'r>), Problem> {
    // Clients put a slash behind the address that they are given.
    let may_end_in_slash = |code: &&str| component == Component::Shortener || *code == "sqs";
    let path = match one_segment(path).filter(may_end_in_slash) {
        Some(code) => path.get(..=code.len()).unwrap_or_default(),
        None => path,
    };
    match matching(method, path, |call| call.component() == component) {
        Found::Call(call, parameters) => Ok((call, parameters)),
        Found::Methods(allowed) => Err(Problem::method_not_allowed(&allowed)),
        Found::Nothing => Err(Problem::not_found()),
    }
}

/// What a path is.
enum Found<'r> {
    Call(Call, Parameters<'r>),
    /// Of calls with other methods: these.
    Methods(String),
    Nothing,
}

/// The call among those that `are_meant` with this method and path.
fn matching<'r>(method: &str, path: &'r str, are_meant: impl Fn(Call) -> bool) -> Found<'r> {
    let mut segments = [""; MAX_SEGMENTS];
    let mut count = 0;
    let slashes = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
    let ends = slashes.map(|(at, _)| at).chain([path.len()]);
    let mut start = 0;
    for end in ends {
        let Some(segment) = segments.get_mut(count) else {
            return Found::Nothing;
        };
        *segment = &path[start..end];
        (start, count) = (end + 1, count + 1);
    }
    let segments = segments.get(..count).unwrap_or_default();
    let mut allowed: Vec<&str> = Vec::new();
    let mut is_literal = false;
    let patterns = CALLS.get(count).into_iter().flatten();
    let asked = marks(segments);
    let patterns =
        patterns.filter(|pattern| asked & pattern.mask == pattern.marks && are_meant(pattern.call));
    for Pattern {
        call,
        segments: expected,
        ..
    } in patterns
    {
        let Some(parameters) = Call::parameters(expected, segments) else {
            continue;
        };
        // Nothing can have the name that a literal segment is (a reserved code).
        is_literal |= segments == expected.as_slice();
        if is_literal && segments != expected.as_slice() {
            continue;
        }
        if call.takes(method) {
            return Found::Call(*call, parameters);
        }
        allowed.push(call.method());
    }
    if allowed.is_empty() {
        return Found::Nothing;
    }
    if let Some(at) = allowed.iter().position(|method| *method == "GET") {
        allowed.insert(at + 1, "HEAD");
    }
    Found::Methods(allowed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_has_more_segments_than_are_looked_at() {
        let longest = Call::ALL.iter().map(|call| call.path().split('/').count()).max();
        assert_eq!(longest, Some(MAX_SEGMENTS));
        assert_eq!(CALLS.iter().flatten().count(), Call::ALL.len());
    }
}
