internal import FleetModel

// The rows of the table that are about a cell.

extension Route {
    private static let accepted = Answer.json(Acceptance.shape)
    private static let stale = Parameter(
        "stale", .text(pattern: Pattern.duration),
        "answer from this node's replica if it misses no more than this: 500ms, 2s")
    private static let index = Parameter(
        "index", .range(0, 999_999_999_999_999),
        "answer from a state that holds this index, as Muster-Index said it; cheaper than the newest")
    private static let tenant = Parameter("tenant", .name, "whose; \(defaultTenant) when left out")
    private static let ofTenant = Parameter("tenant", .name, "only this tenant's")

    private static func listing(_ kind: FleetKind, isWatched: Bool = false) -> [Parameter] {
        let known = kind.fields.map { $0.kind == .map ? "\($0.name).KEY" : $0.name }
        // Refused with 422 and not as malformed: what a filter may say, no schema can.
        let sorted = kind.fields.filter { $0.kind == .text || $0.kind == .number }.map(\.name)
        var parameters = [
            Parameter(
                "filter", .string,
                "a condition, as in name~web and label.env in (a,b); = != ~ !~ < <= > >= in, and or not; fields: "
                    + known.joined(separator: ", ")),
            Parameter(
                "fields", .text(pattern: Pattern.members(of: kind.shape)),
                "only these members, separated by commas; spec.labels leads into an object"),
            Parameter(
                "sort", .text(pattern: Pattern.order(kind.fields)),
                "the field to sort by, with - before it from the highest down: \(sorted.joined(separator: ", ")). Then a "
                    + "thing whose value changes between two pages may be missed or come twice; without it never"),
            Parameter("limit", .range(1, Int64(FleetList.limitMax)), "things in a page, at most \(FleetList.limitMax)"),
            Parameter("after", .string, "a page's next"), stale, index,
        ]
        if [.vms, .groups, .migrations].contains(kind) { parameters.append(ofTenant) }
        if isWatched {
            parameters += [
                Parameter(
                    "watch", .range(0, 1), "1: stream changes; JSON lines, or server-sent events where Accept says so"),
                Parameter(
                    "from", .text(pattern: Pattern.place),
                    "watch what comes after this revision, or after this index; now by default"),
            ]
        }
        return parameters
    }

    private static let eventList = [
        Parameter("filter", .string, "a condition; fields: kind, tenant, vm, host, by"),
        Parameter(
            "fields", .text(pattern: Pattern.members(of: EventInfo.shape)), "only these members, separated by commas"),
        Parameter(
            "sort", .choice(["revision", "-revision"]), "-revision: the newest first, and pages go back in time"),
        Parameter("limit", .range(1, Int64(FleetList.limitMax)), "events in a page, at most \(FleetList.limitMax)"),
        Parameter("after", .text(pattern: Pattern.place), "a page's next, or a revision"), ofTenant,
        Parameter("vm", .name, "only of this VM, by name in the tenant or by id"),
        Parameter("host", .name, "only of this host"), stale, index,
        Parameter("watch", .range(0, 1), "1: stream events; JSON lines, or server-sent events where Accept says so"),
        Parameter(
            "from", .text(pattern: Pattern.place),
            "watch what comes after this revision, or after this index; now by default"),
    ]

    static let fleet = (hosts + vms + groups + tenants + placement).map(withCell).map(withPlan) + images

    /// Changes that are answered with a plan where `dry-run=1` asks for one. Those that a `PlanWish` describes are planned by
    /// `POST /v1/plan`.
    static let dryRuns: [Operation] = [.updateVM, .deleteVM, .migrateVM, .changeCellSettings]

    /// What can be planned first.
    private static func withPlan(_ route: Route) -> Route {
        let planned: [Operation] = [
            .drainHost, .resumeHost, .declareHostDead, .setHostPolicy, .removeHost, .createVM, .createVMs, .setTenant,
        ]
        let isDryRun = dryRuns.contains(route.operation)
        if !isDryRun && !planned.contains(route.operation) { return route }
        var route = route
        if isDryRun {
            route.query.append(
                Parameter(
                    "dry-run", .range(0, 1),
                    "1: the answer is a plan, 200: what would change, or the refusal that the change would get; nothing is done"
                ))
        }
        route.query.append(
            Parameter(
                "plan", .text(pattern: Pattern.planDigest),
                "the digest of the plan that was shown: with another plan by now the change is refused with 409"))
        return route
    }

    private static func withCell(_ route: Route) -> Route {
        if [.setTenant, .deleteTenant, .renewLease].contains(route.operation) { return route }
        var route = route
        route.query.append(
            Parameter(
                "cell", .name,
                "the cell that is meant; when left out, the one that has what is named, and for a list all of them"))
        return route
    }

    private static func page(_ kind: FleetKind) -> Answer { .json(Shape.page(of: kind.shape)) }

    private static let hosts = [
        Route(
            .listHosts, .get, "/v1/hosts", "Lists hosts, or with watch=1 streams their changes.",
            query: listing(.hosts, isWatched: true), page(.hosts)),
        Route(.getHost, .get, "/v1/hosts/{host}", "Shows a host.", query: [stale, index], .json(HostInfo.shape)),
        Route(
            .removeHost, .delete, "/v1/hosts/{host}", "Takes a host out of the cell for ever.",
            query: [
                Parameter(
                    "force", .range(0, 1),
                    "1: even if it has VMs, once it is down; those that were to run on there are given up for gone, which must be true"
                )
            ], status: 202, hasGeneration: true, accepted),
        Route(
            .cordonHost, .post, "/v1/hosts/{host}/cordon", "Lets no more VMs come.", status: 202, hasGeneration: true,
            accepted),
        Route(
            .drainHost, .post, "/v1/hosts/{host}/drain", "Moves its VMs elsewhere.",
            query: [
                Parameter(
                    "return", .choice(FleetWords.hostReturn.all),
                    "what becomes of them when the host is resumed and nothing else is said then; none when left out")
            ], status: 202, hasGeneration: true, accepted),
        Route(
            .pauseDrain, .post, "/v1/hosts/{host}/pause-drain",
            "Lets no more moves off a host begin that is drained; those under way go on, and nothing comes.",
            status: 202,
            hasGeneration: true, accepted),
        Route(
            .resumeDrain, .post, "/v1/hosts/{host}/resume-drain", "Lets a drain go on that was paused.", status: 202,
            hasGeneration: true, accepted),
        Route(
            .declareHostAway, .post, "/v1/hosts/{host}/away",
            "Says that a host is to be away for a while, as for a reboot: what it runs waits for it, and nothing comes.",
            body: .json(HostAbsence.shape), status: 202, hasGeneration: true, accepted),
        Route(
            .declareHostBack, .post, "/v1/hosts/{host}/back", "Says that a host is not to be away any more.",
            status: 202,
            hasGeneration: true, accepted),
        Route(
            .declareHostDead, .post, "/v1/hosts/{host}/declare-dead",
            "Says that a host is off: what it ran starts elsewhere, on your word that none of it runs there any more. Refused while "
                + "its lease may be in force; what it rests on is said by POST /v1/plan.",
            status: 202, hasGeneration: true, accepted),
        Route(
            .maintainHost, .post, "/v1/hosts/{host}/maintenance", "Says that an empty host is worked on.", status: 202,
            hasGeneration: true, accepted),
        Route(
            .resumeHost, .post, "/v1/hosts/{host}/resume", "Lets VMs come again.",
            query: [
                Parameter(
                    "return", .choice(FleetWords.hostReturn.all),
                    "what becomes of VMs that left it by a drain. none: they stay, and nothing of it is remembered; lazy: nothing moves, but "
                        + "they take this host first when they are placed anew or moved anyway; all: they are moved back. When left out "
                        + "it is what the drain said")
            ], status: 202, hasGeneration: true, accepted),
        Route(
            .pauseReturn, .post, "/v1/hosts/{host}/pause-return",
            "Lets no more moves back to a host begin; those under way go on.", status: 202, hasGeneration: true,
            accepted),
        Route(
            .resumeReturn, .post, "/v1/hosts/{host}/resume-return", "Lets moves back go on that were paused.",
            status: 202, hasGeneration: true, accepted),
        Route(
            .setHostPolicy, .put, "/v1/hosts/{host}/policy", "Sets labels, taints, overcommit and what is reserved.",
            query: [
                Parameter(
                    "enforce", .range(0, 1),
                    "1: have what may not stay there then moved away, in the cluster, within its budgets; without it such moves end that "
                        + "were asked for before")
            ],
            body: .json(HostPolicy.shape), hasGeneration: true, accepted),
        Route(
            .getHostUsage, .get, "/v1/hosts/{host}/usage",
            "Lists what VMs use of a host now; the host itself is asked.",
            .json(Listing<VMUsage>.shape)),
        Route(
            .markStorage, .post, "/v1/hosts/{host}/storage",
            "Says that what the host has in a storage domain's directory is that domain from now on.",
            body: .json(StorageMarking.shape), accepted),
    ]

    private static let vms = [
        Route(
            .listVMs, .get, "/v1/vms", "Lists VMs, or with watch=1 streams their changes.",
            query: listing(.vms, isWatched: true), page(.vms)),
        Route(
            .createVM, .post, "/v1/vms", "Creates a VM. It is placed by itself.", body: .json(VMCreation.shape),
            status: 201, .json(CreatedVM.shape)),
        Route(
            .createVMs, .post, "/v1/vms/batch", "Creates VMs, with a result for each.", body: .json(VMBatch.shape),
            .json(VMBatchResult.shape)),
        Route(.getVM, .get, "/v1/vms/{vm}", "Shows a VM.", query: [tenant, stale, index], .json(VMInfo.shape)),
        Route(
            .updateVM, .put, "/v1/vms/{vm}", "Changes what a VM asks for.", query: [tenant],
            body: .json(VMUpdate.shape), status: 202, hasGeneration: true, accepted),
        Route(
            .deleteVM, .delete, "/v1/vms/{vm}", "Stops a VM and deletes it.", query: [tenant], status: 202,
            hasGeneration: true, accepted),
        Route(
            .startVM, .post, "/v1/vms/{vm}/start", "Starts a VM.", query: [tenant], status: 202, hasGeneration: true,
            accepted),
        Route(
            .stopVM, .post, "/v1/vms/{vm}/stop", "Stops a VM; it keeps its place.", query: [tenant], status: 202,
            hasGeneration: true, accepted),
        Route(
            .pauseVM, .post, "/v1/vms/{vm}/pause", "Pauses a VM in memory.", query: [tenant], status: 202,
            hasGeneration: true, accepted),
        Route(
            .resumeVM, .post, "/v1/vms/{vm}/resume", "Lets a paused VM go on.", query: [tenant], status: 202,
            hasGeneration: true, accepted),
        Route(
            .restartVM, .post, "/v1/vms/{vm}/restart", "Stops a VM and starts it where it is.", query: [tenant],
            status: 202, hasGeneration: true, accepted),
        Route(
            .migrateVM, .post, "/v1/vms/{vm}/migrate", "Moves a running VM to another host, or a VM to another cell.",
            query: [tenant],
            body: .json(MigrationWish.shape), status: 202, hasGeneration: true, accepted),
        Route(
            .cancelMigration, .post, "/v1/vms/{vm}/cancel-migration",
            "Gives a migration, or the way to another cell, up before its commit.",
            query: [tenant], status: 202, hasGeneration: true, accepted),
        Route(
            .explainVM, .get, "/v1/vms/{vm}/explain", "Says why a VM is where it is, or why it waits.",
            query: [
                tenant,
                Parameter(
                    "hosts", .text(pattern: Pattern.names), "names of hosts to be told about, separated by commas"),
            ],
            .json(ExplainInfo.shape)),
        Route(
            .getVMHistory, .get, "/v1/vms/{vm}/history", "Lists what happened to a VM.",
            query: [
                tenant, Parameter("after", .text(pattern: Pattern.place), "a page's next"),
                Parameter("limit", .range(1, Int64(FleetList.limitMax)), "events in a page"),
            ], page(.events)),
        Route(
            .getVMLogs, .get, "/v1/vms/{vm}/logs", "Gives the end of what a VM wrote to its serial console.",
            query: [
                tenant, Parameter("bytes", .range(1, Int64(VMLogs.bytesMax)), "at most so many; 65536 when left out"),
            ], .json(VMLogs.shape)),
        Route(
            .getVMUsage, .get, "/v1/vms/{vm}/usage", "Says what a VM uses of its host now; the host is asked.",
            query: [tenant], .json(VMUsage.shape)),
        Route(
            .getVMForecast, .get, "/v1/vms/{vm}/forecast",
            "Says what a live migration of a VM would take now; its host measures for a second.",
            query: [tenant], .json(MoveOutlook.shape)),
        Route(
            .useVMConsole, .post, "/v1/vms/{vm}/console",
            "Types into a VM's serial console and gives what it wrote since.",
            query: [tenant], body: .json(ConsoleTurn.shape), .json(ConsoleOutput.shape)),
        Route(
            .listMigrations, .get, "/v1/migrations", "Lists migrations under way.", query: listing(.migrations),
            page(.migrations)),
    ]

    private static let groups = [
        Route(
            .listGroups, .get, "/v1/groups", "Lists placement groups, or with watch=1 streams their changes.",
            query: listing(.groups, isWatched: true), page(.groups)),
        Route(
            .createGroup, .post, "/v1/groups", "Creates a placement group, or changes its rule.",
            body: .json(CellGroup.creationShape), status: 201, .json(Acceptance.shape)),
        Route(
            .getGroup, .get, "/v1/groups/{group}", "Shows a placement group.", query: [tenant, stale, index],
            .json(CellGroup.shape)),
        Route(
            .deleteGroup, .delete, "/v1/groups/{group}", "Deletes a placement group without members.", query: [tenant],
            accepted),
    ]

    private static let images = [
        Route(
            .listImages, .get, "/v1/images", "Lists images: the tenant's and everybody's.",
            query: [ofTenant], .json(Listing<ImageInfo>.shape)),
        Route(
            .addImagePart, .post, "/v1/images/parts",
            "Sends some bytes of an image to this node, and says how many it has. Another part may come after any time.",
            body: .json(ImagePart.shape), .json(ImageProgress.shape)),
        Route(
            .addImage, .post, "/v1/images",
            "Gives bytes that were sent to this node a name, if their SHA-256 is what it is said to be.",
            body: .json(ImageCreation.shape), status: 201, .json(ImageInfo.shape)),
        Route(
            .getImage, .get, "/v1/images/{image}", "Shows an image: the tenant's, or else everybody's.",
            query: [tenant], .json(ImageInfo.shape)),
        Route(
            .removeImage, .delete, "/v1/images/{image}", "Removes an image that no VM's disk names.",
            query: [tenant, Parameter("shared", .range(0, 1), "1: everybody's; tenant is left out")], accepted),
        Route(
            .listRemains, .get, "/v1/remains",
            "Lists shared disks of VMs that are gone: those that are to be kept, and those that no host could remove yet.",
            query: [ofTenant], .json(Listing<RemainsInfo>.shape)),
        Route(
            .forgetRemains, .delete, "/v1/remains/{vm}",
            "Lists the shared disks of a VM that is gone no more. Their files stay: remove them yourself.",
            query: [tenant], accepted),
    ]

    private static let tenants = [
        Route(
            .listTenants, .get, "/v1/tenants", "Lists tenants, their quotas and what they use.",
            query: listing(.tenants), page(.tenants)),
        Route(
            .getTenant, .get, "/v1/tenants/{tenant}", "Shows a tenant.", query: [stale, index],
            .json(TenantInfo.shape)),
        Route(
            .setTenant, .put, "/v1/tenants/{tenant}", "Makes a tenant, or changes its quota and tier.",
            body: .json(TenantSettings.shape), accepted),
        Route(.deleteTenant, .delete, "/v1/tenants/{tenant}", "Deletes a tenant without VMs.", accepted),
    ]

    private static let placement = [
        Route(
            .listEvents, .get, "/v1/events", "Lists what happened, or with watch=1 streams it.", query: eventList,
            page(.events)),
        Route(
            .getAudit, .get, "/v1/audit",
            "Lists, or with watch=1 streams, what people and programs changed: who, what, when, from where.",
            query: eventList + [
                Parameter(
                    "root", .range(0, 1),
                    "1: what was asked of the root, such as tenants, tokens, nodes, settings and images, instead of a cell"
                )
            ], page(.events)),
        Route(
            .plan, .post, "/v1/plan", "Says what would happen; nothing happens.", body: .json(PlanWish.shape),
            .json(PlanInfo.shape)),
        Route(
            .listLosses, .get, "/v1/losses",
            "Says of each host, rack or zone what its loss would leave down; nothing happens.",
            query: [Parameter("over", .choice(LossInfo.scopes), "what is lost: host when left out")],
            .json(Listing<LossInfo>.shape)),
        Route(
            .rehearseRegionLoss, .get, "/v1/regions/{region}/rehearsal",
            "Says what would move where, in which waves, and what would wait, if a region were lost, or what a plan for it does and "
                + "has done; nothing happens.",
            query: [
                Route.Parameter(
                    "of", .choice(CellRehearsal.Kind.allCases.map(\.rawValue)),
                    "loss is the default; evacuation and return: what such a plan does, from now on"),
                Route.Parameter(
                    "returns", .choice(RegionPlan.Returns.allCases.map(\.text)),
                    "who goes home; by default what was planned last, or their own policies"),
            ],
            .json(RegionRehearsal.shape)),
        Route(
            .getCellRecovery, .get, "/v1/cells/{cell}/recovery",
            "Says what the loss of each zone and region would cost the cell now, and which of its promises are not kept.",
            .json(CellRecoveryInfo.shape)),
        Route(
            .getRebalance, .get, "/v1/rebalance", "Shows which moves would make the cell better.",
            .json(PlanInfo.shape)),
        Route(
            .startRebalance, .post, "/v1/rebalance", "Makes the moves of a plan.", body: .json(RebalanceStart.shape),
            status: 202, .json(PlanInfo.shape)),
        Route(
            .renewLease, .post, "/v1/lease",
            "Renews a host's lease: what it may run, and for how long. For the host's own certificate.",
            body: .json(LeaseWish.shape), .json(LeaseInfo.shape)),
        Route(
            .getCellSettings, .get, "/v1/cell/settings", "Shows the cell's settings.", query: [stale, index],
            .json(CellSettingsBody.shape)),
        Route(
            .changeCellSettings, .put, "/v1/cell/settings", "Changes settings of the cell; the others stay.",
            body: .json(CellSettingsBody.shape), accepted),
    ]
}
