import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodeRuntime
import RaftCore
import TLSSession

// Changes that are made only while the plan that was shown for them is the plan.
//
//     dry run ─▶ plan with a digest ─▶ the change, with that digest ─▶ planned again ─(the same)─▶ made
//                                                                            └─(another)─▶ refused, with its digest
//
// Between the last plan and the change others may still come; then the cell judges, as it judges all changes.

extension FleetRequest {
    /// What one would have asked before; nil for a change that nothing is planned for.
    var planWish: PlanWish? {
        switch self {
        case .setDuty(let name, .draining), .careForHost(let name, .drain): .drain(name)
        case .careForHost(let name, .resume(.all)): .returns(name)
        case .setHostPolicy(let name, let policy, _, let isEnforced):
            .capacity(CapacityWish(host: name, policy: policy, isEnforced: isEnforced))
        case .removeHost(let name, _): .remove(name)
        case .careForHost(let name, .declareDead): .declareDead(name)
        case .createVM(let creation): .create([creation], isAtomic: false)
        case .createVMs(let batch):
            .create(
                batch.items.compactMap { if case .success(let item) = $0 { item } else { nil } },
                isAtomic: batch.isAtomic)
        case .setTenant(let name, let settings):
            .quota(
                QuotaWish(
                    tenant: name, quota: settings.quota, tier: settings.tier, isEnforced: settings.isEnforced))
        default: nil
        }
    }
}

extension AdminPort {
    func checkPlan(
        _ digest: String, of request: FleetRequest, _ cells: [GroupID], _ asker: FleetAsker,
        _ body: @escaping () -> Void
    ) {
        let judge = { [self] (planned: AdminResponse) in
            guard planned.status == 200, case .bytes(let bytes) = planned.body,
                // What can't be read is as good as another plan.
                let now = (try? JSONParser.parse(bytes[...], depthMax: 32, valuesMax: 1 << 20))?["digest"]?.text
            else { return answer(asker, planned) }
            if now == digest { return body() }
            fail(
                asker,
                Problem(
                    .conflict, "the plan is another one now; look at it and decide again",
                    members: [JSONMember("digest", .string(now))]))
        }
        if request.canBeDryRun { return rehearse(request, cells, asker, judge) }
        guard let wish = request.planWish else {
            return fail(asker, Problem(.invalid, "nothing is planned for this change; leave plan out", field: "plan"))
        }
        if case .create(let items, _) = wish {
            if cells.count > 1 && !asker.isCellNamed {
                return fail(
                    asker,
                    Problem(.invalid, "a plan is one cell's; name that with cell=, or leave plan out", field: "cell"))
            }
            if items.isEmpty || items.count > PlanWish.itemsMax {
                return fail(
                    asker,
                    Problem(
                        .invalid, "a plan is about 1 to \(PlanWish.itemsMax) VMs; send fewer, or leave plan out",
                        field: "plan"))
            }
        }
        if case .quota(let wish) = wish { return planQuota(wish, asker, judge) }
        if case .create(let items, let isAtomic) = wish {
            return planCreation(items, isAtomic: isAtomic, cells[0], asker, judge)
        }
        hand(.plan(wish), cells[0], asker, judge)
    }
}
