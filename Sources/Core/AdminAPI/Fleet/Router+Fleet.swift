internal import ClusterBase
internal import FleetModel

// Requests about a cell, made of matched routes.

extension Router {
    /// What is in the head and the query of such a request beside its body.
    struct FleetParts {
        var name: ArraySlice<UInt8>
        var query: Query
        var generation: UInt64?
        var asEvents: Bool
        var lastEvent: Revision?
    }

    func fleetRequest(
        _ operation: Operation, _ parts: FleetParts, _ body: ShapedObject
    ) throws(Problem) -> FleetRequest {
        let request = try changeRequest(operation, parts, body)
        guard let generation = parts.generation, request.generation == nil else { return request }
        return .onlyAt(generation: generation, request)
    }

    private func changeRequest(
        _ operation: Operation, _ parts: FleetParts, _ body: ShapedObject
    ) throws(Problem) -> FleetRequest {
        let request = try wholeRequest(operation, parts, body)
        guard try parts.query.flag("dry-run") else { return request }
        if parts.query["plan"] != nil {
            throw Problem(.invalid, "plan stands beside dry-run, which makes the plan; send one of them", field: "plan")
        }
        return .dryRun(request)
    }

    private func hostWish(_ operation: Operation, _ body: ShapedObject) throws(Problem) -> HostWish {
        switch operation {
        case .pauseDrain: .pauseDrain
        case .resumeDrain: .resumeDrain
        case .pauseReturn: .pauseReturn
        case .resumeReturn: .resumeReturn
        case .declareHostAway: .goAway(try HostAbsence(body))
        case .declareHostBack: .comeBack
        default: .declareDead
        }
    }

    /// A drain or its end, with what becomes of what it moves away where that is said.
    private func dutyRequest(_ operation: Operation, _ parts: FleetParts) throws(Problem) -> FleetRequest {
        let name = try name(parts.name, "host")
        let isDrain = operation == .drainHost
        guard let word = try text(parts.query, "return") else {
            return .setDuty(name, isDrain ? .draining : .inService)
        }
        guard let returns = FleetWords.hostReturn[word] else {
            throw Problem(
                .malformed, "return is none of \(FleetWords.hostReturn.all.joined(separator: ", ")); send one of them",
                field: "return")
        }
        return .careForHost(name, isDrain ? .drain(returns) : .resume(returns))
    }

    private func wholeRequest(
        _ operation: Operation, _ parts: FleetParts, _ body: ShapedObject
    ) throws(Problem) -> FleetRequest {
        if let list = try fleetList(operation, parts) { return list }
        if let request = try vmRequest(operation, parts, body) { return request }
        let query = parts.query
        switch operation {
        case .getHost: return .host(try name(parts.name, "host"), try fleetMode(query))
        case .removeHost: return .removeHost(try name(parts.name, "host"), isForced: try query.flag("force"))
        case .cordonHost: return .setDuty(try name(parts.name, "host"), .cordoned)
        case .drainHost, .resumeHost: return try dutyRequest(operation, parts)
        case .pauseDrain, .resumeDrain, .pauseReturn, .resumeReturn, .declareHostAway,
            .declareHostBack, .declareHostDead:
            return .careForHost(try name(parts.name, "host"), try hostWish(operation, body))
        case .maintainHost: return .setDuty(try name(parts.name, "host"), .maintenance)
        case .setHostPolicy:
            return .setHostPolicy(
                try name(parts.name, "host"), try HostPolicy(body), generation: parts.generation,
                isEnforced: try query.flag("enforce"))
        case .markStorage: return .markStorage(try name(parts.name, "host"), try StorageMarking(body))
        case .getGroup:
            return .group(try name(parts.name, "group"), tenant: try tenant(query), try fleetMode(query))
        case .createGroup: return .createGroup(try CellGroup(body))
        case .deleteGroup: return .deleteGroup(try name(parts.name, "group"), tenant: try tenant(query))
        case .listImages: return .images(tenant: query["tenant"] == nil ? nil : try tenant(query))
        case .listRemains: return .remains(tenant: query["tenant"] == nil ? nil : try tenant(query))
        case .forgetRemains:
            guard let id = UInt64(String(decoding: parts.name, as: UTF8.self)) else {
                throw Problem(.invalid, "a VM that is gone is named by its number; see /v1/remains", field: "vm")
            }
            return .forgetRemains(VMID(rawValue: id), tenant: try tenant(query))
        case .getImage: return .image(try name(parts.name, "image"), tenant: try tenant(query))
        case .addImagePart: return .addImagePart(try ImagePart(body))
        case .addImage: return .addImage(try ImageCreation(body))
        case .removeImage:
            let isShared = try query.flag("shared")
            if isShared && query["tenant"] != nil {
                throw Problem(.invalid, "shared stands beside a tenant; send one of them", field: "shared")
            }
            return .removeImage(try name(parts.name, "image"), tenant: isShared ? "" : try tenant(query))
        case .getTenant: return .tenant(try name(parts.name, "tenant"), try fleetMode(query))
        case .setTenant: return .setTenant(try name(parts.name, "tenant"), try TenantSettings(body))
        case .deleteTenant: return .deleteTenant(try name(parts.name, "tenant"))
        case .plan: return .plan(try PlanWish(body))
        case .rehearseRegionLoss: return try rehearsal(parts)
        case .getCellRecovery: return .recovery(cell: try name(parts.name, "cell"))
        case .getRebalance: return .rebalance
        case .listLosses:
            let word = try text(query, "over") ?? LossInfo.word(.host)
            guard let scope = LossInfo.scope(word) else {
                throw Problem(
                    .malformed, "over is none of \(LossInfo.scopes.joined(separator: ", ")); send one of them",
                    field: "over")
            }
            return .losses(scope)
        case .getHostUsage: return .hostUsage(try name(parts.name, "host"))
        case .startRebalance: return .startRebalance(try RebalanceStart(body))
        case .renewLease: return .renewLease(try LeaseWish(body))
        case .getCellSettings: return .settings(try fleetMode(query))
        case .changeCellSettings:
            let settings = try CellSettingsBody(body)
            if settings.values.isEmpty {
                throw Problem(.invalid, "the body names no setting; send those that are to change")
            }
            return .changeSettings(settings)
        default: preconditionFailure("\(operation) is no request about a cell")
        }
    }

    private func rehearsal(_ parts: FleetParts) throws(Problem) -> FleetRequest {
        let query = parts.query
        func choice<Choice>(_ name: String, _ all: [(String, Choice)]) throws(Problem) -> Choice? {
            guard let text = try text(query, name) else { return nil }
            if let found = all.first(where: { $0.0 == text }) { return found.1 }
            let words = all.map(\.0).joined(separator: ", ")
            throw Problem(.malformed, "\(name) is \"\(text)\"; send one of \(words)", field: name)
        }
        let kind = try choice("of", CellRehearsal.Kind.allCases.map { ($0.rawValue, $0) }) ?? .loss
        let returns = try choice("returns", RegionPlan.Returns.allCases.map { ($0.text, $0) })
        return .rehearse(region: try name(parts.name, "region"), of: kind, returns: returns)
    }

    private func vmRequest(
        _ operation: Operation, _ parts: FleetParts, _ body: ShapedObject
    ) throws(Problem) -> FleetRequest? {
        let generation = parts.generation
        switch operation {
        case .createVM: return .createVM(try VMCreation(body))
        case .createVMs: return .createVMs(try VMBatch(body))
        case .getVM: return .vm(try vm(parts), try fleetMode(parts.query))
        case .updateVM: return .updateVM(try vm(parts), try VMUpdate(body).spec, generation: generation)
        case .deleteVM: return .deleteVM(try vm(parts), generation: generation)
        case .startVM: return .startVM(try vm(parts), generation: generation)
        case .stopVM: return .stopVM(try vm(parts), generation: generation)
        case .pauseVM: return .pauseVM(try vm(parts), generation: generation)
        case .resumeVM: return .resumeVM(try vm(parts), generation: generation)
        case .restartVM: return .restartVM(try vm(parts))
        case .migrateVM: return .migrateVM(try vm(parts), try MigrationWish(body))
        case .cancelMigration: return .cancelMigration(try vm(parts))
        case .getVMUsage: return .usage(try vm(parts))
        case .getVMForecast: return .forecast(try vm(parts))
        case .useVMConsole: return .console(try vm(parts), try ConsoleTurn(body))
        case .explainVM: return .explain(try vm(parts), hosts: try words(parts.query, "hosts", areNames: true))
        case .getVMHistory:
            return .history(
                try vm(parts), after: try revision(parts.query, "after") ?? .zero, limit: try limit(parts.query))
        case .getVMLogs:
            guard let text = parts.query["bytes"] else {
                return .logs(try vm(parts), bytes: VMLogs.bytesStandard)
            }
            guard let bytes = HTTPSyntax.decimal(text.span, 0, text.count), bytes >= 1, bytes <= VMLogs.bytesMax else {
                throw Problem(.malformed, "bytes is out of range; send 1 to \(VMLogs.bytesMax)", field: "bytes")
            }
            return .logs(try vm(parts), bytes: bytes)
        default: return nil
        }
    }

    private func fleetList(_ operation: Operation, _ parts: FleetParts) throws(Problem) -> FleetRequest? {
        let kind: FleetKind
        switch operation {
        case .listHosts: kind = .hosts
        case .listVMs: kind = .vms
        case .listGroups: kind = .groups
        case .listTenants: kind = .tenants
        case .listMigrations: kind = .migrations
        case .listEvents, .getAudit: kind = .events
        default: return nil
        }
        let query = parts.query
        var list = FleetList(kind, mode: try fleetMode(query))
        if let text = try text(query, "filter") { list.filter = try FilterExpression(text, fields: kind.fields) }
        list.fields = try words(query, "fields", areNames: false)
        for field in list.fields {
            let first = field.split(separator: ".", omittingEmptySubsequences: false).first.map { String($0) } ?? ""
            if !kind.shape.fields.contains(where: { $0.name == first }) {
                throw Problem(
                    .malformed, "the member \"\(field)\" of fields is unknown; use \(kind.shape.memberNames)",
                    field: "fields")
            }
        }
        if let text = try text(query, "sort") {
            list.sort = kind == .events ? try eventOrder(text) : try sort(text, kind)
        }
        list.limit = try limit(query)
        list.after = try text(query, "after")
        if kind == .events, let after = list.after, Revision(text: Array(after.utf8)[...], indexMeansEnd: true) == nil {
            throw Problem(.malformed, "after is no revision; send a page's next", field: "after")
        }
        if query["tenant"] != nil { list.tenant = try tenant(query) }
        list.host = try query["host"].map { bytes throws(Problem) in try name(bytes[...], "host") }
        list.vm = try query["vm"].map { bytes throws(Problem) in try name(bytes[...], "VM") }
        list.isRoot = operation == .getAudit ? try query.flag("root") : false
        if try query.flag("watch") {
            if list.isRoot {
                throw Problem(
                    .invalid, "what was asked of the root is listed and not streamed; ask again with after",
                    field: "root")
            }
            if list.after != nil || query["limit"] != nil || list.sort != nil || list.mode != .linearizable {
                throw Problem(.invalid, "a watch has no pages and no order; send filter, fields and from only")
            }
            list.watch = FleetList.Watch(
                from: try revision(query, "from") ?? parts.lastEvent, asEvents: parts.asEvents)
        } else if query["from"] != nil {
            throw Problem(.invalid, "from belongs to a watch; add watch=1 or leave it out", field: "from")
        }
        return operation == .getAudit ? .audit(list) : .list(list)
    }

    /// Events are in the order of their revisions; nil where that is ascending.
    private func eventOrder(_ text: String) throws(Problem) -> FleetList.Sort? {
        switch text {
        case "revision": return nil
        case "-revision": return FleetList.Sort("revision", isDescending: true)
        default:
            throw Problem(.malformed, "events have one order; send revision or -revision", field: "sort")
        }
    }

    private func sort(_ text: String, _ kind: FleetKind) throws(Problem) -> FleetList.Sort {
        let isDescending = text.hasPrefix("-")
        let name = isDescending ? String(text.dropFirst()) : text
        let field = kind.fields.first { field in
            field.kind == .map
                ? name.hasPrefix(field.name + ".") && name.count > field.name.count + 1 : field.name == name
        }
        guard let field, field.kind != .texts else {
            let known = kind.fields.filter { $0.kind != .texts }.map { $0.kind == .map ? "\($0.name).KEY" : $0.name }
            throw Problem(
                .malformed, "sort names no field to sort by; use \(known.joined(separator: ", "))", field: "sort")
        }
        return FleetList.Sort(name, isDescending: isDescending)
    }

    private func vm(_ parts: FleetParts) throws(Problem) -> VMReference {
        let name = try name(parts.name, "VM")
        let tenant = try tenant(parts.query)
        if name.utf8.allSatisfy({ $0 &- 48 <= 9 }) {
            // A number that is none of an id is a name; there is no such VM either way.
            if let number = UInt64(name) { return .id(VMID(number)) }
        }
        return .named(name, tenant: tenant)
    }

    private func tenant(_ query: Query) throws(Problem) -> String {
        guard let bytes = query["tenant"] else { return defaultTenant }
        guard ObjectName.isValid(bytes) else { throw Router.badName("tenant") }
        return String(decoding: bytes, as: UTF8.self)
    }

    private func text(_ query: Query, _ name: String) throws(Problem) -> String? {
        guard let bytes = query[name] else { return nil }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Problem(.malformed, "the parameter \(name) is not UTF-8; encode it as such", field: name)
        }
        return text
    }

    /// Parts between commas.
    private func words(_ query: Query, _ name: String, areNames: Bool) throws(Problem) -> [String] {
        guard let text = try text(query, name) else { return [] }
        let words = text.split(separator: ",", omittingEmptySubsequences: false).map { String($0) }
        if words.count > 64 || words.contains(where: { $0.isEmpty || (areNames && !ObjectName.isValid($0.utf8)) }) {
            throw Problem(
                .malformed, "the parameter \(name) is no list of at most 64 words; separate them by commas", field: name
            )
        }
        return words
    }

    private func limit(_ query: Query) throws(Problem) -> Int {
        guard let text = query["limit"] else { return FleetList.limitMax }
        guard let number = HTTPSyntax.decimal(text.span, 0, text.count), number >= 1, number <= FleetList.limitMax
        else {
            throw Problem(.malformed, "limit is out of range; send 1 to \(FleetList.limitMax)", field: "limit")
        }
        return number
    }

    private func revision(_ query: Query, _ name: String) throws(Problem) -> Revision? {
        guard let text = query[name] else { return nil }
        guard let revision = Revision(text: text[...], indexMeansEnd: true) else {
            throw Problem(
                .malformed, "\(name) is no revision; send index.slot, or an index to begin after it", field: name)
        }
        return revision
    }

    private func fleetMode(_ query: Query) throws(Problem) -> ReadMode {
        let mode = try readMode(query)
        guard let text = query["index"] else { return mode }
        guard let index = HTTPSyntax.decimal(text.span, 0, text.count) else {
            throw Problem(.malformed, "index is no log index; send it as Muster-Index said it", field: "index")
        }
        if mode != .linearizable {
            throw Problem(.invalid, "index stands beside stale; send one of them", field: "index")
        }
        return .atLeast(LogIndex(UInt64(index)))
    }
}
