package import ClusterBase

/// Why a cell did not carry out a command, an item of one, or a query. Nothing of it changed. `description` says which promise it would
/// have broken, and what to do.
package enum CellRefusal: Error, Hashable, Sendable {
    /// What there is a bound on.
    package enum Bound: UInt64, Hashable, Sendable {
        case hosts = 1, vms, groups, tenants, items, requests, commandBytes, specBytes, groupMembers, vmsOnHost, names,
            moves
    }

    case malformed
    case unknownVersion(UInt64)
    /// A field of a specification or a description, and what is wrong with it.
    case invalid(field: String, String)
    case tooMany(Bound)
    case requestReused
    /// Of its process's session nothing is known here any more, so that the command may have been carried out before. A new
    /// session is born at this index of the log or later.
    case sessionUnknown(bornAtLeast: LogIndex)
    /// Its process asked for it before and has settled it: it was carried out then, or never will be.
    case commandSettled
    /// Another item of an atomic command was refused.
    case anotherItem

    case unknownHost(HostID)
    /// For ever.
    case hostRemoved(HostID)
    case unknownVM(VMID)
    case unknownGroup(String)
    case hostNameTaken(String)
    case vmNameTaken(String)
    case groupInUse(String)
    /// The other cell has a group of this name with another rule.
    case groupDiffers(String)
    /// The generation is another one now.
    case generationChanged(UInt64)
    case incarnationOutdated(HostID)
    case hostInUse(HostID)
    case hostIsUp(HostID)
    /// What is asked for wants a host that is otherwise: how it is, and what to do.
    case hostIsOtherwise(HostID, String)

    /// Nobody set it, or this cell has not heard of that yet.
    case unknownTenant(String)
    /// Of VMs of the tenant, where who asks reaches it alone.
    case priorityTooHigh(tenant: String, most: Int64, asked: Int64)
    case quotaExceeded(tenant: String, resource: String, limit: Int64, used: Int64, asked: Int64)
    /// The host can't take it: the rule that it breaks, in words.
    case doesNotFit(HostID, String)
    case hostTakesNone(HostID, HostState)
    case notWaiting(VMID)
    /// The VM is not where or what the command was planned for.
    case epochOutdated(VMID)
    case isDeleting(VMID)
    case migrationUnderWay(VMID)
    case noMigration(VMID)
    case notRunning(VMID)
    case boundToHost(VMID)
    case settingOutOfRange(CellSetting)
    /// What is split by one setting would be merged by the other.
    case boundsMeet
    /// Too many hosts were lost at once; an operator must look.
    case brakeHolds
    /// It went to another cell.
    case hostReleased(HostID)
    /// The host was assigned to the cell anew, under a later epoch of the map.
    case assignmentOutdated(HostID)
    case cellClosed
    /// What is still in a cell that is to be closed.
    case cellInUse(String)
    /// By the creation with this request id, which the cell with this number may carry out or has carried out.
    case nameHeld(cell: UInt64, request: [UInt8])
    /// To the cell with this number.
    case loanUnderWay(UInt64)
    /// It goes to another cell, or comes from one.
    case betweenCells(VMID)
    /// It is on its way to another cell with its VMs.
    case hostLeaves(HostID)
    /// It may come from another cell, which has not yet said so.
    case hostArrives(HostID)
    /// Why it can't go to another cell with its VMs now.
    case hostStays(HostID, String)
    /// It went to the cell with this number with its VMs.
    case hostWentTo(HostID, cell: UInt64)
    /// The other cell does not have it yet as it is now.
    case hostBehind(HostID)
    /// What is kept here for a VM that is to come from another cell is not complete; why no host here takes it, where one was looked
    /// for.
    case notKeptYet(VMID, why: String = "")
    case moveIsOver
    /// Its removal began, and whoever named it did not know.
    case imageReleased(String)
    /// A backup is being made.
    case movesHeld
    /// Others wait for their first place together with this one, and no place is given to some of them.
    case gangIncomplete(VMID)
    /// What is kept free for losses would not be there any more: for whose loss, and how much is short.
    case breaksReserve(String)
    /// A later declaration than this one, with this epoch, is known here.
    case regionOutdated(UInt64)
}

extension CellRefusal: CustomStringConvertible {
    package var description: String { sentence(host: { "\($0)" }, vm: { "\($0)" }) }

    /// For people: hosts and VMs are called as these say.
    package func sentence(host hostName: (HostID) -> String, vm vmName: (VMID) -> String) -> String {
        switch self {
        case .malformed: "the bytes are no command; send one encoded as cell.proto describes"
        case .unknownVersion(let version):
            "version \(version) of the command format is unknown here; send a version from \(FeatureLevel.oldest) to "
                + "\(FeatureLevel.newest)"
        case .invalid(let field, let text): "\(field): \(text)"
        case .tooMany(let bound): bound.sentence
        case .requestReused: "this request id was used for another command; draw a new one"
        case .sessionUnknown:
            "the cell has forgotten the session that this command is of, and can't tell whether it was carried out; look, then "
                + "ask again"
        case .commandSettled:
            "the one who sent this command has given it up; look whether it was carried out, then ask again"
        case .anotherItem:
            "another item of this all-or-nothing command was refused; correct that one, or send them singly"
        case .unknownHost(let host): "there is no host \(hostName(host)) in this cell; see `muster host list`"
        case .hostRemoved(let host):
            "host \(hostName(host)) was removed from this cell; remove its node, and join the machine as a new one"
        case .unknownVM(let vm): "there is no VM \(vmName(vm)); see `muster vm list`"
        case .unknownGroup(let name): "there is no group \(name); create it first with `muster group create`"
        case .hostNameTaken(let name): "a host named \(name) is in this cell; rename the machine, or remove that host"
        case .vmNameTaken(let name): "the tenant has a VM named \(name); choose another name, or delete that VM first"
        case .groupDiffers(let name):
            "group \(name) has another rule there; make it the same in both with `muster group create` and --cell"
        case .groupInUse(let name): "VMs are members of group \(name); take them out of it or delete them first"
        case .generationChanged(let generation):
            "it was changed meanwhile, and has generation \(generation); read it again and decide anew"
        case .incarnationOutdated(let host):
            "a newer agent of host \(hostName(host)) has registered; this one's word doesn't count"
        case .hostInUse(let host): "host \(hostName(host)) has VMs; drain it first with `muster host drain`"
        case .hostIsUp(let host):
            "host \(hostName(host)) is up; drain it and stop its agent first. One that is off is down when its lease has run out, some "
                + "seconds after it was heard last"
        case .hostIsOtherwise(let host, let how): "host \(hostName(host)) \(how)"
        case .unknownTenant(let name):
            "there is no tenant \(name); an administrator makes it with `muster tenant set \(name)`, and says there what it may have"
        case .priorityTooHigh(let tenant, let most, let asked):
            "who reaches the tenant \(tenant) alone gives its VMs a priority of at most \(most), and \(asked) was asked for; ask "
                + "for less, or ask an administrator for more with `muster tenant set \(tenant) --priority-max N`"
        case .quotaExceeded(let tenant, let resource, let limit, let used, let asked):
            "the quota of tenant \(tenant) allows \(limit) of \(resource), \(used) are in use and \(asked) more were asked "
                + "for; delete something, ask for less, or raise the quota with `muster tenant set`"
        case .doesNotFit(let host, let rule): "host \(hostName(host)) can't take it: \(rule); choose another host"
        case .hostTakesNone(let host, let state):
            "host \(hostName(host)) is \(state) and takes no VMs; choose another one, or see `muster host show`"
        case .notWaiting(let vm): "VM \(vmName(vm)) waits for no place; see `muster vm show`"
        case .epochOutdated(let vm): "VM \(vmName(vm)) is no longer as it was when this was decided; look again"
        case .isDeleting(let vm): "VM \(vmName(vm)) is being deleted; create a new one"
        case .migrationUnderWay(let vm):
            "VM \(vmName(vm)) is being moved; wait, or call that off with `muster vm migrate --cancel`"
        case .noMigration(let vm): "VM \(vmName(vm)) is not being moved, or the move can't be taken back any more"
        case .notRunning(let vm): "VM \(vmName(vm)) does not run; start it first"
        case .boundToHost(let vm):
            "VM \(vmName(vm)) has a local disk, which leaves its host only by a live migration within its cell, from feature level "
                + "\(FeatureLevel.diskMoves) on; start the VM and migrate it, give it shared disks, or delete it there and create "
                + "it anew"
        case .boundsMeet:
            "splitAbove and mergeBelow count the same, hosts or VMs, and splitAbove is at least \(SplitBound.apart) times mergeBelow, so "
                + "that nothing is split and merged again; set the other one first, or to off"
        case .settingOutOfRange(let setting): Self.outOfRange(setting)
        case .brakeHolds:
            "too many hosts were lost within ten minutes, so no more are given up by themselves; look what happened, then "
                + "raise the cell's failoverBrakeMilli to let their VMs start elsewhere"
        case .hostReleased(let host):
            "host \(hostName(host)) has left this cell for another one; it comes back when `muster cell assign` says so"
        case .assignmentOutdated(let host):
            "host \(hostName(host)) was assigned to a cell anew since; its agent hears of that in a moment"
        case .loanUnderWay(let cell):
            "a part of the quota is on its way to cell number \(cell) already; ask again in a moment"
        case .betweenCells(let vm):
            "VM \(vmName(vm)) is on its way to another cell; wait, or call that off with `muster vm migrate --cancel`"
        case .hostLeaves(let host):
            "host \(hostName(host)) is on its way to another cell with its VMs, which takes a moment; ask again after it"
        case .hostArrives(let host):
            "host \(hostName(host)) is on its way to this cell from another one; it is asked again in a moment"
        case .hostStays(let host, let why):
            "host \(hostName(host)) can't go to another cell with its VMs now: \(why)"
        case .hostWentTo(let host, let cell):
            "host \(hostName(host)) has gone to cell number \(cell) with its VMs; its agent asks there"
        case .hostBehind(let host): "host \(hostName(host)) or a VM on it has changed since; it is sent again"
        case .notKeptYet(let vm, let why):
            "VM \(vmName(vm)) has no place in this cell yet\(why.isEmpty ? "" : ": \(why)"); it is asked again"
        case .moveIsOver: "the VM's way to another cell is over, or can't be called off any more; see `muster vm show`"
        case .movesHeld:
            "a backup is being made, and until it is no VM goes from cell to cell; ask again when it is there"
        case .imageReleased(let name):
            "the image \(name) is being removed, or was meanwhile; see `muster image list`, and ask again"
        case .gangIncomplete(let vm):
            "VM \(vmName(vm)) was created all or none with others, and gets its place with all of them that still wait; place them in "
                + "one all-or-nothing command"
        case .breaksReserve(let text):
            "\(text); add hosts, stop or delete VMs, or keep less with `muster cell set failoverReserve`"
        case .regionOutdated(let epoch):
            "what was declared of the region is over: epoch \(epoch) is known here; see `muster region show`"
        case .nameHeld(let cell, _): "the name is held for a VM of cell number \(cell); choose another name"
        case .cellClosed: "the cell is retired and takes nothing any more; choose another one with `muster cell list`"
        case .cellInUse(let what): "the cell still has \(what); a cell is retired only when it is empty"
        }
    }
}

extension CellRefusal {
    private static func outOfRange(_ setting: CellSetting) -> String {
        switch setting {
        case .mergeBelow: "mergeBelow is off, or fewer hosts or VMs than: hosts:4, vms:1000"
        case .splitAbove: "splitAbove is off, or hosts or VMs at most: hosts:500, vms:100000"
        case .failoverReserve:
            "failoverReserve is off, or how many hosts, racks or zones may be lost: hosts:1, racks:2, up to \(FailoverReserve.countMax)"
        default:
            "\(setting.member) can't have this value: it goes from \(setting.range.lowerBound) to \(setting.range.upperBound), "
                + "and is \(setting.standard) unless it is set"
        }
    }
}

extension CellRefusal.Bound {
    fileprivate var sentence: String {
        switch self {
        case .hosts: "the cell has \(CellLimits.hostsMax) hosts, the most it may have; remove one first"
        case .vms: "the cell has \(CellLimits.vmsMax) VMs, the most it may have; delete some first"
        case .groups: "the tenant has \(CellLimits.groupsPerTenantMax) groups, the most it may have; delete one first"
        case .moves:
            "\(CellLimits.movesMax) VMs are on their way between cells, the most there may be; wait for some of them"
        case .names: "\(CellLimits.namesMax) names of VMs are kept for the region, the most there may be"
        case .tenants: "the cell knows \(CellLimits.tenantsMax) tenants, the most it may; delete one first"
        case .items: "a command has at most \(CellLimits.itemsMax) items; send several"
        case .requests:
            "as many results as there may be are kept for repetitions; wait, or ask without a request id"
        case .commandBytes: "a command has at most \(CellLimits.commandBytesMax) bytes; send several"
        case .specBytes: "a VM's specification has at most \(CellLimits.specBytesMax) bytes; shorten its annotations"
        case .groupMembers: "a group has at most \(CellLimits.groupMembersMax) members; use several groups"
        case .vmsOnHost: "a host has at most \(CellLimits.vmsPerHostMax) VMs; choose another one"
        }
    }
}

extension CellRefusal {
    /// A refusal as it is kept and sent.
    struct Stored {
        var code: UInt32
        var number: UInt64 = 0
        var text = ""
        var detail = ""
        var limit: Int64 = 0
        var used: Int64 = 0
        var asked: Int64 = 0
    }

    /// For kept results and the wire. Codes are never given a new meaning.
    var stored: Stored {
        switch self {
        case .malformed: Stored(code: 1)
        case .unknownVersion(let version): Stored(code: 2, number: version)
        case .invalid(let field, let text): Stored(code: 3, text: field, detail: text)
        case .tooMany(let bound): Stored(code: 4, number: bound.rawValue)
        case .requestReused: Stored(code: 5)
        case .sessionUnknown(let born): Stored(code: 7, number: born.rawValue)
        case .commandSettled: Stored(code: 8)
        case .anotherItem: Stored(code: 6)
        case .unknownHost(let host): Stored(code: 10, number: host.rawValue)
        case .unknownVM(let vm): Stored(code: 11, number: vm.rawValue)
        case .unknownGroup(let name): Stored(code: 12, text: name)
        case .hostNameTaken(let name): Stored(code: 13, text: name)
        case .vmNameTaken(let name): Stored(code: 14, text: name)
        case .groupInUse(let name): Stored(code: 15, text: name)
        case .groupDiffers(let name): Stored(code: 150, text: name)
        case .generationChanged(let generation): Stored(code: 16, number: generation)
        case .incarnationOutdated(let host): Stored(code: 17, number: host.rawValue)
        case .hostInUse(let host): Stored(code: 18, number: host.rawValue)
        case .hostIsUp(let host): Stored(code: 19, number: host.rawValue)
        case .hostRemoved(let host): Stored(code: 20, number: host.rawValue)
        case .hostIsOtherwise(let host, let how): Stored(code: 21, number: host.rawValue, text: how)
        case .quotaExceeded(let tenant, let resource, let limit, let used, let asked):
            Stored(code: 30, text: tenant, detail: resource, limit: limit, used: used, asked: asked)
        case .doesNotFit(let host, let rule): Stored(code: 31, number: host.rawValue, text: rule)
        case .hostTakesNone(let host, let state):
            Stored(code: 32, number: host.rawValue, limit: Int64(state.rawValue))
        case .notWaiting(let vm): Stored(code: 33, number: vm.rawValue)
        case .epochOutdated(let vm): Stored(code: 34, number: vm.rawValue)
        case .isDeleting(let vm): Stored(code: 35, number: vm.rawValue)
        case .migrationUnderWay(let vm): Stored(code: 36, number: vm.rawValue)
        case .noMigration(let vm): Stored(code: 37, number: vm.rawValue)
        case .notRunning(let vm): Stored(code: 38, number: vm.rawValue)
        case .boundToHost(let vm): Stored(code: 39, number: vm.rawValue)
        case .settingOutOfRange(let setting): Stored(code: 40, number: UInt64(setting.rawValue))
        case .brakeHolds: Stored(code: 41)
        case .boundsMeet: Stored(code: 151)
        case .hostReleased(let host): Stored(code: 50, number: host.rawValue)
        case .assignmentOutdated(let host): Stored(code: 51, number: host.rawValue)
        case .cellClosed: Stored(code: 52)
        case .cellInUse(let what): Stored(code: 53, text: what)
        case .loanUnderWay(let cell): Stored(code: 55, number: cell)
        case .betweenCells(let vm): Stored(code: 56, number: vm.rawValue)
        case .notKeptYet(let vm, let why): Stored(code: 57, number: vm.rawValue, text: why)
        case .moveIsOver: Stored(code: 58)
        case .imageReleased(let name): Stored(code: 59, text: name)
        case .movesHeld: Stored(code: 60)
        case .gangIncomplete(let vm): Stored(code: 61, number: vm.rawValue)
        case .breaksReserve(let text): Stored(code: 130, text: text)
        case .regionOutdated(let epoch): Stored(code: 62, number: epoch)
        case .unknownTenant(let name): Stored(code: 63, text: name)
        case .hostLeaves(let host): Stored(code: 75, number: host.rawValue)
        case .hostArrives(let host): Stored(code: 76, number: host.rawValue)
        case .hostStays(let host, let why): Stored(code: 77, number: host.rawValue, text: why)
        case .hostWentTo(let host, let cell): Stored(code: 79, number: host.rawValue, limit: Int64(clamping: cell))
        case .hostBehind(let host): Stored(code: 78, number: host.rawValue)
        case .priorityTooHigh(let tenant, let most, let asked):
            Stored(code: 64, text: tenant, limit: most, asked: asked)
        case .nameHeld(let cell, let request):
            Stored(
                code: 54, number: cell, text: request.map { String(UInt16($0) + 256, radix: 16).dropFirst() }.joined())
        }
    }

    init?(_ stored: Stored) {
        let number = stored.number
        switch stored.code {
        case 1: self = .malformed
        case 2: self = .unknownVersion(number)
        case 3: self = .invalid(field: stored.text, stored.detail)
        case 4:
            guard let bound = Bound(rawValue: number) else { return nil }
            self = .tooMany(bound)
        case 5: self = .requestReused
        case 7: self = .sessionUnknown(bornAtLeast: LogIndex(number))
        case 8: self = .commandSettled
        case 6: self = .anotherItem
        case 10: self = .unknownHost(HostID(number))
        case 11: self = .unknownVM(VMID(number))
        case 12: self = .unknownGroup(stored.text)
        case 13: self = .hostNameTaken(stored.text)
        case 14: self = .vmNameTaken(stored.text)
        case 15: self = .groupInUse(stored.text)
        case 150: self = .groupDiffers(stored.text)
        case 16: self = .generationChanged(number)
        case 17: self = .incarnationOutdated(HostID(number))
        case 18: self = .hostInUse(HostID(number))
        case 19: self = .hostIsUp(HostID(number))
        case 20: self = .hostRemoved(HostID(number))
        case 21: self = .hostIsOtherwise(HostID(number), stored.text)
        case 30:
            self = .quotaExceeded(
                tenant: stored.text, resource: stored.detail, limit: stored.limit, used: stored.used,
                asked: stored.asked)
        case 31: self = .doesNotFit(HostID(number), stored.text)
        case 32:
            guard let state = HostState(rawValue: UInt8(clamping: stored.limit)) else { return nil }
            self = .hostTakesNone(HostID(number), state)
        case 33: self = .notWaiting(VMID(number))
        case 34: self = .epochOutdated(VMID(number))
        case 35: self = .isDeleting(VMID(number))
        case 36: self = .migrationUnderWay(VMID(number))
        case 37: self = .noMigration(VMID(number))
        case 38: self = .notRunning(VMID(number))
        case 39: self = .boundToHost(VMID(number))
        case 40:
            guard let setting = CellSetting(rawValue: UInt32(truncatingIfNeeded: number)) else { return nil }
            self = .settingOutOfRange(setting)
        case 41: self = .brakeHolds
        case 151: self = .boundsMeet
        case 50: self = .hostReleased(HostID(number))
        case 51: self = .assignmentOutdated(HostID(number))
        case 52: self = .cellClosed
        case 53: self = .cellInUse(stored.text)
        case 55: self = .loanUnderWay(number)
        case 56: self = .betweenCells(VMID(number))
        case 57: self = .notKeptYet(VMID(number), why: stored.text)
        case 58: self = .moveIsOver
        case 59: self = .imageReleased(stored.text)
        case 60: self = .movesHeld
        case 61: self = .gangIncomplete(VMID(number))
        case 62: self = .regionOutdated(number)
        case 63: self = .unknownTenant(stored.text)
        case 130: self = .breaksReserve(stored.text)
        case 75: self = .hostLeaves(HostID(number))
        case 76: self = .hostArrives(HostID(number))
        case 77: self = .hostStays(HostID(number), stored.text)
        case 79: self = .hostWentTo(HostID(number), cell: UInt64(clamping: stored.limit))
        case 78: self = .hostBehind(HostID(number))
        case 64: self = .priorityTooHigh(tenant: stored.text, most: stored.limit, asked: stored.asked)
        case 54:
            let digits = stored.text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
            guard digits.count == 2 * CellLimits.requestBytes else { return nil }
            self = .nameHeld(
                cell: number,
                request: (0..<CellLimits.requestBytes).map { UInt8(digits[2 * $0] * 16 + digits[2 * $0 + 1]) })
        default: return nil
        }
    }
}
