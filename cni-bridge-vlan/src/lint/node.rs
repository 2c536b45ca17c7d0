//! Whether this node is as the configuration needs it, by what STATUS asks.

use berth_cni::error::CniError;
use berth_cni::request::Request;
use berth_kernel::netlink::{Net, VlanRange};
use berth_kernel::{Root, cpu};
use berth_state::bridge::BridgeRecords;

use crate::bridge;
use crate::conf::Conf;
use crate::plan::{BridgeStep, Plan};
use crate::status;

/// What ADD would find and do here now.
pub(super) fn look(root: &Root, request: &Request, conf: &Conf) -> Result<Vec<String>, CniError> {
    let record = BridgeRecords::new(root).load(&conf.bridge)?;
    let plan = bridge::foresee(root, &Net::open()?, conf, &record)?;
    let online = cpu::online(root)?;
    conf.rps.cpus.must_be_online("rps.cpus", &online)?;
    status::status(root, request)?;
    Ok(words(conf, &plan))
}

fn words(conf: &Conf, plan: &Plan) -> Vec<String> {
    let name = &conf.bridge;
    let mut words = vec![match &plan.bridge {
        BridgeStep::Keep => format!("bridge {name} is as it must be"),
        BridgeStep::Create => format!("bridge {name} is not there: it is made"),
        BridgeStep::Finish { filter: true } => {
            format!("bridge {name} is switched to VLAN filtering, and set up")
        }
        BridgeStep::Finish { filter: false } => format!("bridge {name} is marked and set up"),
    }];
    match &plan.uplink {
        None => {}
        Some(step) if step.is_idle() => {
            words.push(format!("uplink {} is as it must be", step.name));
        }
        Some(step) => {
            if step.enslave {
                words.push(format!("uplink {} is made a port of {name}", step.name));
            }
            if step.raise {
                words.push(format!("uplink {} is set up", step.name));
            }
            if !step.add_vlans.is_empty() {
                let vlans = VlanRange::list(&step.add_vlans);
                words.push(format!("uplink {} is put into VLAN {vlans}", step.name));
            }
        }
    }
    words.push(format!("MTU {} on both ends", plan.mtu));
    if let Some(vlan) = plan.unwanted_vlan {
        words.push(format!(
            "the port is taken out of the bridge's default VLAN {vlan}"
        ));
    }
    if let Some(vlan) = plan.kept_vlan {
        words.push(format!(
            "the port stays in the bridge's default VLAN {vlan}"
        ));
    }
    words
}
