internal import ClusterBase
package import FleetModel

/// A VM as a path names it: a number is its id, anything else its name in the tenant of the query.
package enum VMReference: Hashable, Sendable, CustomStringConvertible {
    case id(VMID)
    case named(String, tenant: String)

    package var description: String {
        switch self {
        case .id(let id): "\(id)"
        case .named(let name, let tenant): tenant == defaultTenant ? name : "\(tenant)/\(name)"
        }
    }
    /// Nil when only a look at the VM tells it.
    package var tenant: String? { if case .named(_, let tenant) = self { tenant } else { nil } }
}

/// What requests ask of a cell: of hosts, VMs and all that is about them.
package enum FleetRequest: Hashable, Sendable {
    /// A page of a list, or a stream of changes.
    indirect case list(FleetList)
    case host(String, ReadMode)
    case setDuty(String, CellHost.Duty)
    /// What may not stay there then is moved away where it is enforced.
    indirect case setHostPolicy(String, HostPolicy, generation: UInt64?, isEnforced: Bool = false)
    case careForHost(String, HostWish)
    case removeHost(String, isForced: Bool)
    indirect case markStorage(String, StorageMarking)

    case vm(VMReference, ReadMode)
    indirect case createVM(VMCreation)
    indirect case createVMs(VMBatch)
    indirect case updateVM(VMReference, VMDescription, generation: UInt64?)
    case deleteVM(VMReference, generation: UInt64?)
    case startVM(VMReference, generation: UInt64?)
    case stopVM(VMReference, generation: UInt64?)
    case pauseVM(VMReference, generation: UInt64?)
    case resumeVM(VMReference, generation: UInt64?)
    case restartVM(VMReference)
    case migrateVM(VMReference, MigrationWish)
    case cancelMigration(VMReference)
    /// With the names of hosts to be told about.
    case explain(VMReference, hosts: [String])
    case history(VMReference, after: Revision, limit: Int)
    case logs(VMReference, bytes: Int)
    indirect case console(VMReference, ConsoleTurn)
    /// What it uses of its host now.
    case usage(VMReference)
    /// What its live migration would take now.
    case forecast(VMReference)
    case hostUsage(String)

    case group(String, tenant: String, ReadMode)
    indirect case createGroup(CellGroup)
    case deleteGroup(String, tenant: String)

    /// Of one tenant and everybody's; nil for all that the asker may see.
    case images(tenant: String?)
    /// Shared disks of VMs that are gone.
    case remains(tenant: String?)
    /// They are noted no more, and stay where they are.
    case forgetRemains(VMID, tenant: String)
    case image(String, tenant: String)
    indirect case addImagePart(ImagePart)
    indirect case addImage(ImageCreation)
    /// Everybody's where the tenant is empty.
    case removeImage(String, tenant: String)

    case tenant(String, ReadMode)
    indirect case setTenant(String, TenantSettings)
    case deleteTenant(String)

    /// Changes that people and programs asked for, oldest first.
    indirect case audit(FleetList)
    indirect case plan(PlanWish)
    /// Of what becomes of a region's VMs; `returns` nil: as it is planned, or by their own policies.
    case rehearse(region: String, of: CellRehearsal.Kind, returns: RegionPlan.Returns?)
    /// What the loss of each zone and region would cost a cell, against what it promises.
    case recovery(cell: String)
    case rebalance
    /// Of each host, rack or zone.
    case losses(PlacementGroup.Scope)
    case startRebalance(RebalanceStart)
    case settings(ReadMode)
    case renewLease(LeaseWish)
    indirect case changeSettings(CellSettingsBody)
    /// A change of a VM or a host that has no place for a generation itself: not carried out where it has another one by now.
    indirect case onlyAt(generation: UInt64, FleetRequest)
    /// What this change would do, or why it would be refused; nothing is done.
    indirect case dryRun(FleetRequest)

    package var operation: Operation {
        switch self {
        case .list(let list):
            switch list.kind {
            case .hosts: .listHosts
            case .vms: .listVMs
            case .groups: .listGroups
            case .tenants: .listTenants
            case .migrations: .listMigrations
            case .events: .listEvents
            }
        case .host: .getHost
        case .setDuty(_, let duty):
            switch duty {
            case .inService: .resumeHost
            case .cordoned: .cordonHost
            case .draining: .drainHost
            case .maintenance: .maintainHost
            }
        case .setHostPolicy: .setHostPolicy
        case .careForHost(_, let wish): wish.operation
        case .removeHost: .removeHost
        case .markStorage: .markStorage
        case .vm: .getVM
        case .createVM: .createVM
        case .createVMs: .createVMs
        case .updateVM: .updateVM
        case .deleteVM: .deleteVM
        case .startVM: .startVM
        case .stopVM: .stopVM
        case .pauseVM: .pauseVM
        case .resumeVM: .resumeVM
        case .restartVM: .restartVM
        case .migrateVM: .migrateVM
        case .cancelMigration: .cancelMigration
        case .explain: .explainVM
        case .history: .getVMHistory
        case .logs: .getVMLogs
        case .console: .useVMConsole
        case .usage: .getVMUsage
        case .forecast: .getVMForecast
        case .hostUsage: .getHostUsage
        case .group: .getGroup
        case .createGroup: .createGroup
        case .deleteGroup: .deleteGroup
        case .images: .listImages
        case .remains: .listRemains
        case .forgetRemains: .forgetRemains
        case .image: .getImage
        case .addImagePart: .addImagePart
        case .addImage: .addImage
        case .removeImage: .removeImage
        case .tenant: .getTenant
        case .setTenant: .setTenant
        case .deleteTenant: .deleteTenant
        case .audit: .getAudit
        case .plan: .plan
        case .rehearse: .rehearseRegionLoss
        case .recovery: .getCellRecovery
        case .rebalance: .getRebalance
        case .losses: .listLosses
        case .startRebalance: .startRebalance
        case .settings: .getCellSettings
        case .renewLease: .renewLease
        case .changeSettings: .changeCellSettings
        case .dryRun(let request), .onlyAt(_, let request): request.operation
        }
    }

    /// One may ask what it would do by the same request with `dry-run=1`.
    package var canBeDryRun: Bool {
        if case .dryRun = self { return false }
        return Route.dryRuns.contains(operation)
    }

    package var action: Action {
        switch self {
        case .list(let list):
            switch list.kind {
            // A tenant's own roles see hosts no more than by the names in its VMs.
            case .hosts: .observe
            default: .readTenant(list.tenant)
            }
        case .host, .rebalance, .losses, .hostUsage, .settings: .observe
        case .setDuty, .setHostPolicy, .careForHost, .removeHost, .markStorage, .startRebalance: .manageHosts
        case .changeSettings: .manageCells
        case .renewLease: .renewOwnLease
        case .vm(let vm, _), .explain(let vm, _), .history(let vm, _, _), .logs(let vm, _),
            .usage(let vm), .forecast(let vm):
            .readTenant(vm.tenant)
        case .createVM(let creation): .writeTenant(creation.tenant)
        // Each item is judged by its tenant.
        case .createVMs: .writeTenant(nil)
        case .updateVM(let vm, _, _), .deleteVM(let vm, _), .startVM(let vm, _), .stopVM(let vm, _),
            .pauseVM(let vm, _), .resumeVM(let vm, _), .restartVM(let vm), .migrateVM(let vm, _), .console(let vm, _),
            .cancelMigration(let vm):
            .writeTenant(vm.tenant)
        case .group(_, let tenant, _): .readTenant(tenant)
        case .createGroup(let group): .writeTenant(group.tenant)
        case .deleteGroup(_, let tenant): .writeTenant(tenant)
        case .images(let tenant), .remains(let tenant): .readTenant(tenant)
        case .forgetRemains(_, let tenant): .writeTenant(tenant)
        case .image(_, let tenant): .readTenant(tenant)
        case .addImagePart(let part): .writeTenant(part.tenant)
        case .addImage(let image): .writeTenant(image.tenant)
        case .removeImage(_, let tenant): .writeTenant(tenant)
        case .tenant(let name, _): .readTenant(name)
        case .setTenant, .deleteTenant: .manageTenants
        case .audit(let list): .readTenant(list.tenant)
        // Each of several tenants' items is judged by its tenant.
        case .plan(.create(let items, _)):
            .planTenant(items.allSatisfy { $0.tenant == items.first?.tenant } ? items.first?.tenant : nil)
        case .plan, .rehearse, .recovery: .observe
        // Whoever may not do it is refused beforehand, too.
        case .dryRun(let request), .onlyAt(_, let request): request.action
        }
    }

    /// Its answer is a stream.
    package var isStream: Bool {
        switch self {
        case .list(let list), .audit(let list): list.watch != nil
        default: false
        }
    }

    /// Its answer is a stream of server-sent events.
    var asksForEvents: Bool {
        switch self {
        case .list(let list), .audit(let list): list.watch?.asEvents ?? false
        default: false
        }
    }

    /// What `If-Match` says.
    package var generation: UInt64? {
        switch self {
        case .setHostPolicy(_, _, let generation, _), .updateVM(_, _, let generation), .deleteVM(_, let generation),
            .startVM(_, let generation), .stopVM(_, let generation), .pauseVM(_, let generation),
            .resumeVM(_, let generation):
            generation
        case .onlyAt(let generation, _): generation
        case .dryRun(let request): request.generation
        default: nil
        }
    }

    /// The members of its body.
    var members: [JSONMember]? {
        switch self {
        case .setHostPolicy(_, let policy, _, _): policy.members
        case .careForHost(_, .goAway(let absence)): absence.members
        case .markStorage(_, let marking): marking.members
        case .createVM(let creation): creation.members
        case .createVMs(let batch): batch.members
        case .updateVM(_, let spec, _): VMUpdate(spec).members
        case .migrateVM(_, let wish): wish.members
        case .console(_, let turn): turn.members
        case .createGroup(let group): group.creationMembers
        case .addImagePart(let part): part.members
        case .addImage(let image): image.members
        case .setTenant(_, let settings): settings.members
        case .plan(let wish): wish.members
        case .startRebalance(let start): start.members
        case .renewLease(let wish): wish.members
        case .changeSettings(let settings): settings.members
        case .dryRun(let request), .onlyAt(_, let request): request.members
        default: nil
        }
    }

    /// What the parameter of its path is.
    var pathName: String {
        switch self {
        case .host(let name, _), .setDuty(let name, _), .setHostPolicy(let name, _, _, _), .removeHost(let name, _),
            .careForHost(let name, _), .markStorage(let name, _), .group(let name, _, _), .deleteGroup(let name, _),
            .tenant(let name, _),
            .setTenant(let name, _), .hostUsage(let name),
            .deleteTenant(let name), .image(let name, _), .removeImage(let name, _),
            .rehearse(let name, _, _), .recovery(let name):
            name
        case .forgetRemains(let vm, _): "\(vm.rawValue)"
        case .onlyAt(_, let request): request.pathName
        default: vm.map { vm in if case .named(let name, _) = vm { name } else { "\(vm)" } } ?? ""
        }
    }

    /// The VM that it is about, where that is one.
    package var vm: VMReference? {
        switch self {
        case .vm(let vm, _), .updateVM(let vm, _, _), .deleteVM(let vm, _), .startVM(let vm, _), .stopVM(let vm, _),
            .pauseVM(let vm, _), .resumeVM(let vm, _), .restartVM(let vm), .migrateVM(let vm, _), .console(let vm, _),
            .cancelMigration(let vm), .explain(let vm, _), .history(let vm, _, _), .logs(let vm, _),
            .usage(let vm), .forecast(let vm):
            vm
        case .dryRun(let request), .onlyAt(_, let request): request.vm
        default: nil
        }
    }

    /// The parameters of its query.
    var query: [(String, String)] {
        if case .dryRun(let request) = self { return request.query + [("dry-run", "1")] }
        if case .onlyAt(_, let request) = self { return request.query }
        var query: [(String, String)] = []
        func add(_ mode: ReadMode) {
            switch mode {
            case .linearizable: break
            case .stale(let within): query.append(("stale", "\(within.milliseconds)ms"))
            case .atLeast(let index): query.append(("index", "\(index.rawValue)"))
            }
        }
        if let tenant = vm?.tenant, tenant != defaultTenant { query.append(("tenant", tenant)) }
        switch self {
        case .list(let list), .audit(let list):
            if let filter = list.filter { query.append(("filter", filter.text)) }
            if !list.fields.isEmpty { query.append(("fields", list.fields.joined(separator: ","))) }
            if let sort = list.sort { query.append(("sort", sort.text)) }
            if list.limit != FleetList.limitMax { query.append(("limit", "\(list.limit)")) }
            if let after = list.after { query.append(("after", after)) }
            if let tenant = list.tenant { query.append(("tenant", tenant)) }
            if let vm = list.vm { query.append(("vm", vm)) }
            if let host = list.host { query.append(("host", host)) }
            if list.isRoot { query.append(("root", "1")) }
            if let watch = list.watch {
                query.append(("watch", "1"))
                if let from = watch.from { query.append(("from", from.description)) }
            }
            add(list.mode)
        case .losses(let scope) where scope != .host: query.append(("over", LossInfo.word(scope)))
        case .careForHost(_, .drain(let returns)), .careForHost(_, .resume(let returns)):
            query.append(("return", FleetWords.hostReturn[returns]))
        case .removeHost(_, isForced: true): query.append(("force", "1"))
        case .setHostPolicy(_, _, _, isEnforced: true): query.append(("enforce", "1"))
        case .rehearse(_, let kind, let returns):
            if kind != .loss { query.append(("of", kind.rawValue)) }
            if let returns { query.append(("returns", returns.text)) }
        case .host(_, let mode), .vm(_, let mode), .tenant(_, let mode), .settings(let mode): add(mode)
        case .explain(_, let hosts) where !hosts.isEmpty: query.append(("hosts", hosts.joined(separator: ",")))
        case .history(_, let after, let limit):
            if after > .zero { query.append(("after", after.description)) }
            if limit != FleetList.limitMax { query.append(("limit", "\(limit)")) }
        case .logs(_, let bytes) where bytes != VMLogs.bytesStandard: query.append(("bytes", "\(bytes)"))
        case .group(_, let tenant, let mode):
            if tenant != defaultTenant { query.append(("tenant", tenant)) }
            add(mode)
        case .images(let tenant?), .remains(let tenant?): query.append(("tenant", tenant))
        case .forgetRemains(_, let tenant): if tenant != defaultTenant { query.append(("tenant", tenant)) }
        case .removeImage(_, tenant: ""): query.append(("shared", "1"))
        case .image(_, let tenant), .removeImage(_, let tenant):
            if tenant != defaultTenant { query.append(("tenant", tenant)) }
        case .deleteGroup(_, let tenant): if tenant != defaultTenant { query.append(("tenant", tenant)) }
        default: break
        }
        return query
    }
}

extension HostWish {
    fileprivate var operation: Operation {
        switch self {
        case .pauseDrain: .pauseDrain
        case .resumeDrain: .resumeDrain
        case .goAway: .declareHostAway
        case .comeBack: .declareHostBack
        case .declareDead: .declareHostDead
        case .drain: .drainHost
        case .resume: .resumeHost
        case .pauseReturn: .pauseReturn
        case .resumeReturn: .resumeReturn
        }
    }
}
