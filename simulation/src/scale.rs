//! What a fleet of many databases would rest on, before anybody builds it (`docs/scale.md`): a hot campaign split into stocks that databases
//! lend each other, a lane that moves from one to another, and limits that a thousand gateways share. Each with deliberate bugs, which must
//! be found.

mod edge;
mod lanes;
mod stock;
