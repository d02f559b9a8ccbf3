package import ClusterBase
package import FleetModel

// What a change would do: what it makes of a VM or a cell's settings, in fields, and what follows.

/// A value that would be another one.
package struct PlanChange: Shaped {
    /// `cpuMillis`, `labels.env`, `disks.root`, `policy`.
    package var field: String
    /// As text; empty where it is not there.
    package var before: String
    package var after: String
    /// What it means, or when it takes effect; empty for at once.
    package var text: String
    package init(_ field: String, before: String, after: String, text: String = "") {
        self.field = field
        self.before = before
        self.after = after
        self.text = text
    }
    package static let shape = Shape(
        "PlanChange",
        [
            Field(
                "field", .string,
                "a member of the specification, the policy or the quota, or a setting, such as cpuMillis, labels.env or disks.root"
            ),
            Field("before", .string, "its value now; empty where it is not there"),
            Field("after", .string, "its value then; empty where it is not there"),
            Field("text", .string, isRequired: false, "what it means, or when it takes effect, if not at once"),
        ])
    package var members: [JSONMember] {
        var members = [JSONMember("field", field), JSONMember("before", before), JSONMember("after", after)]
        if !text.isEmpty { members.append(JSONMember("text", text)) }
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            object.text("field"), before: object.text("before"), after: object.text("after"),
            text: object.text("text"))
    }

    /// What differs between two specifications, in the order of their fields. Of values that are secret it is said only that
    /// they differ.
    static func between(_ old: VMDescription, _ new: VMDescription) -> [PlanChange] {
        var changes: [PlanChange] = []
        let (oldJSON, newJSON) = (old.json, new.json)
        for field in VMDescription.shape.fields {
            let (before, after) = (oldJSON[field.name], newJSON[field.name])
            if before != after { changes += between(before, after, field.name, depth: 1) }
        }
        for field in new.secrets {
            if let known = old.secrets.first(where: { $0.key == field.key }), known.value != field.value {
                let marker = SecretField.marker
                changes.append(
                    PlanChange("secrets.\(field.key)", before: marker, after: marker, text: "it is another value"))
            }
        }
        return changes
    }

    /// What differs between two quotas and tiers, as a command line says it. A tenant that is to be made has none yet, and a new
    /// tier that is empty is not looked at.
    static func between(_ old: TenantSettings?, _ new: TenantSettings) -> [PlanChange] {
        func parts(_ settings: TenantSettings) -> [(name: String, value: String)] {
            let quota = settings.quota
            return [
                ("vmCount", quota.vmCount.map { "\($0)" } ?? "none"),
                ("cpuMillis", quota.cpuMillis.map { "\($0)" } ?? "none"),
                ("memoryMiB", quota.memoryMiB.map { "\($0)" } ?? "none"),
                ("diskMiB", quota.diskMiB.map { "\($0)" } ?? "none"), ("priorityMax", "\(quota.priorityMax)"),
                ("rto", quota.rto.text), ("tier", settings.tier),
            ]
        }
        let before = old.map(parts)
        return parts(new).enumerated().compactMap { i, part in
            let known = before?[i].value ?? ""
            if part.value == known || part.name == "tier" && part.value.isEmpty { return nil }
            return PlanChange(part.name, before: known, after: part.value)
        }
    }

    /// What differs between two policies of a host, a resource, a label and a taint for itself.
    static func between(_ old: HostPolicy, _ new: HostPolicy) -> [PlanChange] {
        HostPolicy.shape.fields.flatMap { field -> [PlanChange] in
            let (before, after) = (old.json[field.name], new.json[field.name])
            return before == after ? [] : between(before, after, field.name, depth: 1)
        }
    }

    /// Of objects, and of lists of things with names, only the parts that differ.
    private static func between(
        _ old: JSONValue?, _ new: JSONValue?, _ field: String, depth: Int
    ) -> [PlanChange] {
        guard depth > 0, let before = parts(old), let after = parts(new) else {
            return [PlanChange(field, before: shown(old), after: shown(new))]
        }
        let known = before.map(\.name)
        let names = known + after.map(\.name).filter { !known.contains($0) }
        return names.flatMap { name -> [PlanChange] in
            let (a, b) = (before.first { $0.name == name }?.value, after.first { $0.name == name }?.value)
            return a == b ? [] : between(a, b, "\(field).\(name)", depth: depth - 1)
        }
    }

    /// The named parts of a value; none of one that is not there, and nil for one without such parts.
    private static func parts(_ value: JSONValue?) -> [JSONMember]? {
        guard let value else { return [] }
        if let members = value.members { return members }
        guard let elements = value.elements else { return nil }
        var parts: [JSONMember] = []
        for element in elements {
            // A taint is known by its key.
            let known = element["name"]?.text ?? element["key"]?.text
            guard let name = known, !parts.contains(where: { $0.name == name }) else { return nil }
            parts.append(JSONMember(name, element))
        }
        return parts
    }

    private static func shown(_ value: JSONValue?) -> String {
        guard let value else { return "" }
        if let text = value.text { return text }
        if let texts = value.elements?.map(\.text), texts.allSatisfy({ $0 != nil }) {
            return texts.compactMap { $0 }.joined(separator: ",")
        }
        return String(decoding: value.bytes, as: UTF8.self)
    }

    /// Whether a VM that runs with the one specification has to be started anew for the other, both as JSON.
    package static func needsRestart(from old: JSONValue, to new: JSONValue) -> Bool {
        let names = (old.members ?? []).map(\.name) + (new.members ?? []).map(\.name)
        return names.contains { name in
            old[name] != new[name] && between(old[name], new[name], name, depth: 1).contains(where: \.waitsForStart)
        }
    }

    /// A machine that runs is not made another one by it.
    fileprivate var waitsForStart: Bool {
        let first = field.split(separator: ".").first.map { String($0) } ?? ""
        switch first {
        case "cpuMillis", "memoryMiB", "diskMiB", "networkMbps", "networks", "secrets": return true
        case "annotations":
            return ["qemu.", "cloud-init."].contains { field.dropFirst("annotations.".count).hasPrefix($0) }
        default: return false
        }
    }
}

extension PlanInfo {
    private init(_ index: LogIndex, _ steps: [PlanStep], _ changes: [PlanChange], _ notes: [String]) {
        self.init(index: index.rawValue, digest: "", steps: steps, changes: changes, notes: notes)
        var sum: UInt64 = 0
        for member in members where member.name != "index" {
            for byte in JSONValue.object([member]).bytes { sum = mix64(sum ^ UInt64(byte)) }
        }
        digest = String(sum, radix: 16)
    }

    /// What another specification makes of a VM; `new` is nil where nothing would change.
    package init(
        updating old: CellVM, to new: CellVM?, at index: LogIndex, hostName: (HostID) -> String
    ) {
        let host = old.place.map { hostName($0.assignment.host) } ?? ""
        guard let new, new.spec != old.spec else {
            self.init(index, [], [], ["nothing would change: the VM has this specification"])
            return
        }
        var changes = PlanChange.between(old.spec, new.spec)
        var notes: [String] = []
        if old.mayRun {
            let late = changes.indices.filter { changes[$0].waitsForStart }
            for i in late {
                changes[i].text += (changes[i].text.isEmpty ? "" : ", ") + "at its next start, at the latest"
            }
            if !late.isEmpty {
                notes.append("it needs a restart, and runs on as it is until then: `muster vm restart \(old.name)`")
            }
        }
        if old.place != nil && new.place == nil {
            notes.append("it leaves its place on host \(host), and gets one as it asks for then when it is started")
        } else if old.phase == .waiting {
            notes.append("it waits for a place, and gets one as it asks for then")
        }
        let step = PlanStep(action: "update", vm: old.name, tenant: old.tenant, from: host, to: host)
        self.init(index, [step], changes, notes)
    }

    /// What goes with a VM, and what stays of it. `isAtOnce`: nothing of it runs.
    package init(
        deleting vm: CellVM, isAtOnce: Bool, at index: LogIndex, hostName: (HostID) -> String
    ) {
        let host = vm.place.map { hostName($0.assignment.host) } ?? ""
        if vm.isDeleting {
            self.init(index, [], [], ["the VM is being deleted already"])
            return
        }
        var changes = vm.spec.disks.map { disk -> PlanChange in
            let shown = PlanInfo.shown(disk)
            let isMade = vm.epochHighest > 0
            guard case .shared(let domain) = disk.kind else {
                return PlanChange(
                    "disks.\(disk.name)", before: shown, after: "", text: isMade ? "goes with the VM" : "was never made"
                )
            }
            if !isMade { return PlanChange("disks.\(disk.name)", before: shown, after: "", text: "was never made") }
            return disk.isKept
                ? PlanChange(
                    "disks.\(disk.name)", before: shown, after: shown,
                    text: "stays in storage domain \(domain), and is listed by `muster remains list`")
                : PlanChange(
                    "disks.\(disk.name)", before: shown, after: "",
                    text: "its file goes from storage domain \(domain), removed by a host that reaches it")
        }
        if let tpm = vm.spec.tpm {
            let text = vm.epochHighest > 0 ? "what it remembers goes with the VM" : "was never made"
            changes.append(PlanChange("tpm", before: tpm.text, after: "", text: text))
        }
        let how =
            isAtOnce
            ? "nothing of it runs: it goes at once"
            : "it is stopped on host \(host) first, and goes when that has confirmed it"
        let step = PlanStep(action: "delete", vm: vm.name, tenant: vm.tenant, from: host)
        self.init(index, [step], changes, [how])
    }

    private static func shown(_ disk: VMDescription.NamedDisk) -> String {
        let kind =
            switch disk.kind {
            case .shared(let domain): "shared in \(domain)"
            case .local: "local"
            case .ephemeral: "ephemeral"
            }
        return "\(disk.sizeMiB) MiB, \(kind)" + (disk.image.isEmpty ? "" : ", of image \(disk.image)")
    }

    /// A live migration to a host that can take the VM.
    package init(
        migrating vm: CellVM, to target: HostID, intent: MoveIntent = .balanced, at index: LogIndex,
        hostName: (HostID) -> String
    ) {
        let disks = vm.spec.disks.filter { if case .shared = $0.kind { false } else { true } }
        let step = PlanStep(
            action: CellPlan.Step.Kind.migrate.rawValue, vm: vm.name, tenant: vm.tenant,
            from: vm.place.map { hostName($0.assignment.host) } ?? "", to: hostName(target),
            cost: disks.reduce(vm.spec.resources.memoryMiB) { $0 + $1.sizeMiB })
        let note =
            disks.isEmpty
            ? "its memory is copied while it runs" : "its memory and the disks on its host are copied while it runs"
        let cost =
            switch intent {
            case .gentle:
                "its intent is gentle: it is never slowed down, gets a small share of the bandwidth, and stays where that is not enough"
            case .balanced: "its intent is balanced: it is slowed down after a while if it writes more than is copied"
            case .now: "its intent is now: it is slowed down from the beginning, and its stop may be longer"
            }
        self.init(index, [step], [], [note, cost])
    }

    /// The way to another cell. `forecast`: what that cell has room for, as far as that is known.
    package init(
        moving vm: CellVM, to cell: String, isCold: Bool, forecast: String, at index: LogIndex,
        hostName: (HostID) -> String
    ) {
        let step = PlanStep(
            action: "move", vm: vm.name, tenant: vm.tenant, from: vm.place.map { hostName($0.assignment.host) } ?? "",
            to: cell)
        let how =
            !vm.mayRun
            ? "it goes once cell \(cell) has kept room for it"
            : isCold || !vm.goesLive
                ? "it stops once cell \(cell) has kept room for it, and starts there"
                : "it goes while it runs once cell \(cell) has kept room for it, and stays where that fails"
        self.init(index, [step], [], [how] + (forecast.isEmpty ? [] : [forecast]))
    }

    /// Settings of a cell, each with its value now and then.
    package init(settings: [(setting: CellSetting, before: UInt64, after: UInt64)], at index: LogIndex) {
        var changes: [PlanChange] = []
        for (setting, before, after) in settings where before != after {
            let old = CellSettingsBody([(setting, before)]).members
            let new = CellSettingsBody([(setting, after)]).members
            for (a, b) in zip(old, new) {
                changes.append(PlanChange(a.name, before: PlanInfo.shown(a.value), after: PlanInfo.shown(b.value)))
            }
        }
        self.init(index, [], changes, changes.isEmpty ? ["nothing would change: the settings have these values"] : [])
    }

    private static func shown(_ value: JSONValue) -> String {
        value.text ?? String(decoding: value.bytes, as: UTF8.self)
    }
}

extension CellVM {
    /// A machine of it may run, which a change finds as it is.
    fileprivate var mayRun: Bool {
        if place == nil { return false }
        switch phase {
        case .starting, .running, .paused, .stopping, .unknown: return true
        case .waiting, .stopped, .crashed, .looping: return false
        }
    }
}

extension PlanInfo {
    /// The plan of new VMs of which some are refused for a reason that lies outside of the cell that planned the others, or of
    /// all where they are made together or not at all: which ones they are is a part of what the digest says.
    package func refusing(
        _ refused: [(creation: VMCreation, text: String)], of all: [VMCreation], isAtomic: Bool
    ) -> PlanInfo {
        if refused.isEmpty { return self }
        var plan = self
        func isRefused(_ tenant: String, _ name: String) -> Bool {
            refused.contains { $0.creation.tenant == tenant && $0.creation.name == name }
        }
        if isAtomic {
            let known = left.filter { $0.cause != CellPlan.Left.Cause.anotherItem.rawValue }
            plan.steps = []
            plan.left = all.filter { !isRefused($0.tenant, $0.name) }.map { creation in
                known.first { $0.tenant == creation.tenant && $0.vm == creation.name }
                    ?? PlanLeft(
                        vm: creation.name, tenant: creation.tenant, cause: CellPlan.Left.Cause.anotherItem.rawValue,
                        text: "another one of the batch has no place")
            }
        } else {
            plan.left.removeAll { isRefused($0.tenant, $0.vm) }
        }
        var sum = UInt64(digest, radix: 16) ?? 0
        for (creation, text) in refused {
            plan.left.append(
                PlanLeft(
                    vm: creation.name, tenant: creation.tenant, cause: CellPlan.Left.Cause.invalid.rawValue, text: text)
            )
            for byte in "\(creation.tenant)/\(creation.name)".utf8 { sum = mix64(sum ^ UInt64(byte)) }
        }
        plan.digest = String(sum, radix: 16)
        return plan
    }
}

extension PlanInfo {
    /// With what would be set beside what is set now, which counts in the digest: set by somebody else meanwhile, it is another
    /// plan.
    package func changing(_ tenant: String, from old: TenantSettings?, to new: TenantSettings) -> PlanInfo {
        var plan = with(PlanChange.between(old, new), otherwise: "the tenant has this quota")
        if old == nil { plan.notes.append("the tenant \(tenant) would be made") }
        return plan
    }

    /// The same of a host's policy.
    package func changing(from old: HostPolicy, to new: HostPolicy) -> PlanInfo {
        with(PlanChange.between(old, new), otherwise: "the host has this policy")
    }

    private func with(_ changes: [PlanChange], otherwise: String) -> PlanInfo {
        var plan = self
        plan.changes = changes
        if changes.isEmpty { plan.notes.append("nothing would change: \(otherwise)") }
        var sum = UInt64(digest, radix: 16) ?? 0
        for byte in JSONValue.array(changes.map(\.json)).bytes { sum = mix64(sum ^ UInt64(byte)) }
        plan.digest = String(sum, radix: 16)
        return plan
    }

    /// For who reaches some tenants alone: of the others' VMs that would make room it is said how many there are. The digest is
    /// that of the whole plan.
    package func seen(by tenants: [String]) -> PlanInfo {
        var plan = self
        plan.steps.removeAll { !tenants.contains($0.tenant) }
        plan.left.removeAll { !tenants.contains($0.tenant) }
        let stopped = steps.count {
            $0.action == CellPlan.Step.Kind.preempt.rawValue && !tenants.contains($0.tenant)
        }
        if stopped > 0 {
            let whose = stopped == 1 ? "1 VM of another tenant" : "\(stopped) VMs of other tenants"
            plan.notes.append("to make room, \(whose) with a lower priority would be stopped")
        }
        return plan
    }
}

extension PlanInfo {
    /// What one cell would do of the VMs of a creation over several.
    package struct Part: Sendable {
        /// By name.
        package var cell: String
        package var plan: PlanInfo
        /// Those that it takes, in the order of the request.
        package var taken: [VMCreation]
        /// Those that another cell is asked for.
        package var rest: [VMCreation]
        package init(cell: String, plan: PlanInfo, taken: [VMCreation], rest: [VMCreation]) {
            self.cell = cell
            self.plan = plan
            self.taken = taken
            self.rest = rest
        }
    }

    /// A cell's part of what it was asked for: all that it would make without stopping others, as a creation goes by that, too.
    package func part(of asked: [VMCreation], in cell: String) -> Part {
        var part = Part(cell: cell, plan: self, taken: [], rest: [])
        part.plan.steps = Array(steps.prefix { $0.action != CellPlan.Step.Kind.preempt.rawValue })
        for item in asked {
            let isTaken = part.plan.steps.contains { $0.tenant == item.tenant && $0.vm == item.name }
            if isTaken { part.taken.append(item) } else { part.rest.append(item) }
        }
        part.plan.left.removeAll { left in
            !part.taken.contains { $0.tenant == left.tenant && $0.name == left.vm }
        }
        return part
    }

    /// One plan out of those of several cells, each with a part of what is to be created. That of one cell is held to with its
    /// digest and its name; one of several is shown, and rests on no single index.
    package init(creatingIn parts: [Part], notes: [String] = []) {
        self.init(index: parts.count == 1 ? parts[0].plan.index : 0, digest: "", steps: [])
        var sum: UInt64 = 0
        for part in parts {
            steps += part.plan.steps
            left += part.plan.left
            isComplete = isComplete && part.plan.isComplete
            for byte in "\(part.cell)/\(part.plan.digest)".utf8 { sum = mix64(sum ^ UInt64(byte)) }
        }
        digest = parts.count == 1 ? parts[0].plan.digest : String(sum, radix: 16)
        self.notes = parts.map { part in
            let count = part.taken.count == 1 ? "1 VM" : "\(part.taken.count) VMs"
            return "\(count) in cell \(part.cell)"
        }
        self.notes += parts.flatMap(\.plan.notes) + notes
    }

    /// Of VMs that a plan leaves out for a quota.
    package static func loanNote(tenant: String, to cell: String) -> String {
        "what is left of tenant \(tenant)'s quota is in other cells, which lend it to cell \(cell) when these VMs are created"
    }
}
