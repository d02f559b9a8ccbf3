import ClusterBase
import FleetModel
import Testing

/// What a cell does about images that are being removed, and about disks that VMs leave behind.
@Suite struct CellImagesTests {
    private func cell(_ number: UInt64 = 1) throws -> CellBench {
        var cell = CellBench()
        cell.group = GroupID(.cell, number: number)
        cell.level = FeatureLevel.images
        for host in 1...2 { try cell.register(10 * number + UInt64(host)) }
        return cell
    }

    private func spec(_ disks: [VMDescription.NamedDisk]) -> VMDescription {
        var spec = CellBench.spec()
        spec.disks = disks
        return spec
    }

    private func begins(_ image: String) -> VMDescription {
        spec([.init(name: "root", sizeMiB: 10, kind: .shared(domain: "ceph"), image: image)])
    }

    /// Asks for a VM as somebody who knows the root up to an entry.
    private func create(
        _ cell: inout CellBench, _ name: String, _ image: String, at: UInt64, tenant: String = "t",
        request: UInt8? = nil
    ) throws -> CellResult.Item? {
        let creation = VMCreation(name: name, tenant: tenant, spec: begins(image))
        let command = CellCommand(
            request: request.map(CellBench.request), by: "test", imagesAt: LogIndex(at),
            .createVMs([creation], isAtomic: false))
        guard case .items(let items) = try cell.apply([command])[0].outcome else { return nil }
        return items.first
    }

    private func remains(_ cell: CellBench) throws -> [CellRemains] {
        try cell.rows(.all(.remains)).compactMap { if case .remains(_, let left?) = $0 { left } else { nil } }
    }

    @Test func `who does not know of a removal gets no VM with the image, and who knows more does`() throws {
        var cell = try cell()
        guard case .vm(let early)? = try create(&cell, "early", "debian", at: 5) else {
            Issue.record("nothing was removed yet")
            return
        }
        try cell.must(.releaseImage(tenant: "t", name: "debian", at: LogIndex(9)))
        #expect(try create(&cell, "a", "debian", at: 8) == .refused(.imageReleased("debian")))
        #expect(try create(&cell, "a", "debian", at: 0) == .refused(.imageReleased("debian")))
        #expect(try create(&cell, "other", "alpine", at: 8).map { if case .vm = $0 { true } else { false } } == true)
        #expect(
            try create(&cell, "other", "debian", at: 8, tenant: "u").map { if case .vm = $0 { true } else { false } }
                == true, "another tenant's image of that name is another one")
        #expect(try create(&cell, "b", "debian", at: 9).map { if case .vm = $0 { true } else { false } } == true)
        // A release that comes late takes nothing back.
        try cell.must(.releaseImage(tenant: "t", name: "debian", at: LogIndex(7)))
        #expect(try create(&cell, "c", "debian", at: 8) == .refused(.imageReleased("debian")))
        // One that has it keeps it, whatever else changes.
        var changed = begins("debian")
        changed.labels = [Named("a", "b")]
        try cell.must(.updateVM(early, changed, generation: nil))
        try cell.must(.releaseImage(tenant: "", name: "suse", at: LogIndex(11)))
        #expect(
            try cell.apply([
                CellCommand(by: "test", imagesAt: LogIndex(10), .updateVM(early, begins("suse"), generation: nil))
            ])[
                0
            ].outcome == .refused(.imageReleased("suse")))
    }

    @Test func `a repetition that knows more of the images is the same command`() throws {
        var cell = try cell()
        let made = try create(&cell, "a", "debian", at: 5, request: 1)
        try cell.must(.releaseImage(tenant: "t", name: "debian", at: LogIndex(9)))
        #expect(try create(&cell, "a", "debian", at: 12, request: 1) == made)
    }

    @Test func `a VM comes from no cell that does not know of its image's removal, however time jumps`() throws {
        var cells = [try cell(1), try cell(2)]
        guard case .vm(let id)? = try create(&cells[0], "a", "debian", at: 5) else { return }
        try cells[0].must(.moveVM(id, to: 2, request: []))
        guard case .move(_, let move?)? = try cells[0].rows(.all(.moves)).first else { return }
        let arrival = CellCommand.Operation.prepareArrival(move.preparation(of: try cells[0].vm(id), from: 1))
        func prepare(at index: UInt64) throws -> CellResult.Outcome {
            let command = CellCommand(by: "test", imagesAt: LogIndex(index), arrival)
            return try cells[1].apply([command])[0].outcome
        }
        #expect(arrival.namesImages)
        try cells[1].must(.releaseImage(tenant: "", name: "debian", at: LogIndex(9)))
        for _ in 0..<3 {
            #expect(try prepare(at: 8) == .refused(.notKeptYet(id)))
            #expect(try cells[1].find(id) == nil, "who looks for it there now has seen all that will be there")
            cells[1].time = cells[1].time.advanced(by: 86_400_000)
        }
        #expect(try prepare(at: 9) == .refused(.notKeptYet(id)))
        #expect(try cells[1].find(id) != nil, "its cell knows how the removal ended: it is kept, and waits for a place")
    }

    @Test func `a VM goes nowhere while an image that it may rest on is being removed`() {
        var vm = CellVM(
            id: VMID(7), name: "a", tenant: "t", spec: begins("debian"), at: LogTime(1), by: "a")
        var view = RootView()
        #expect(!view.imagesStay(vm), "nothing is known yet")
        vm.spec.disks[0].image = ""
        #expect(view.imagesStay(vm), "it rests on none")
        vm.spec = begins("debian")
        func know(_ images: [RootImage]) {
            view = RootView()
            let rows = images.map { RootRow(key: $0.rowKey, value: $0.encoded()) }
            _ = view.take(RootAnswer(index: LogIndex(5), time: LogTime(5), body: .rows(rows, resumeAfter: nil)))
        }
        var image = RootImage(tenant: "", name: "debian", sha256: [UInt8](repeating: 1, count: 32), size: 9)
        var own = image
        own.tenant = "t"
        know([image, own])
        #expect(view.imagesStay(vm))
        image.isLeaving = true
        know([image, own])
        #expect(!view.imagesStay(vm), "it may have begun before its tenant had one of its own")
        vm.tenant = "u"
        own.isLeaving = true
        image.isLeaving = false
        know([image, own])
        #expect(view.imagesStay(vm), "another tenant's is another image")
    }

    @Test func `what is forgotten of releases is still refused to who knows less`() throws {
        var cell = try cell()
        for i in 0...CellLimits.imageReleasesMax {
            try cell.must(.releaseImage(tenant: "", name: "i\(i)", at: LogIndex(100 + i)))
        }
        #expect(try create(&cell, "a", "i0", at: 99) == .refused(.imageReleased("i0")))
        #expect(try create(&cell, "a", "x", at: 99) == .refused(.imageReleased("x")), "it may have been another one")
        #expect(try create(&cell, "a", "i0", at: 9_000).map { if case .vm = $0 { true } else { false } } == true)
    }

    @Test func `shared disks are left once nothing of the VM runs, each until somebody has removed them`() throws {
        var cell = try cell()
        let id = try cell.create(
            "a",
            spec([
                .init(name: "root", sizeMiB: 10, kind: .shared(domain: "ceph"), image: "debian"),
                .init(name: "data", sizeMiB: 10, kind: .shared(domain: "ceph"), isKept: true),
                .init(name: "tmp", sizeMiB: 10, kind: .ephemeral),
            ]))
        try cell.place(id, on: 11)
        try cell.report(id, .running)
        try cell.must(.deleteVM(id, generation: nil))
        #expect(try remains(cell).isEmpty, "it may run still")
        try cell.report(id, .stopped)
        let left = try remains(cell)
        #expect(
            left.map(\.disks) == [
                [
                    .init(name: "root", domain: "ceph", hasImage: true, isKept: false),
                    .init(name: "data", domain: "ceph", hasImage: false, isKept: true),
                ]
            ])
        #expect(left[0].name == "a" && left[0].vm == id)
        #expect(left[0].epoch == 1)
        // What a host removed goes, however often that is said; what people keep stays until they forget it.
        for _ in 0..<2 {
            try cell.must(.dropRemains([.init(id, left[0].leaving)]))
            #expect(try remains(cell).map(\.disks) == [left[0].kept])
        }
        for _ in 0..<2 { try cell.must(.dropRemains([.init(id, left[0].kept), .init(VMID(99), left[0].kept)])) }
        #expect(try remains(cell).isEmpty)
        // One that never had a place wrote nothing.
        let never = try cell.create("b", begins(""))
        try cell.must(.deleteVM(never, generation: nil))
        #expect(try remains(cell).isEmpty)
    }

    private func shared(_ names: String..., kept: [String] = []) -> VMDescription {
        spec(names.map { .init(name: $0, sizeMiB: 10, kind: .shared(domain: "ceph"), isKept: kept.contains($0)) })
    }

    private func stopped(_ cell: inout CellBench, _ spec: VMDescription) throws -> VMID {
        let id = try cell.create("a", spec)
        try cell.place(id, on: 11)
        try cell.report(id, .running)
        try cell.must(.setPower(id, .stopped, generation: nil))
        try cell.report(id, .stopped)
        return id
    }

    @Test func `a shared disk that is taken off a VM is left like those of one that is gone`() throws {
        var cell = try cell()
        let id = try stopped(&cell, shared("root", "data", "kept", kept: ["kept"]))
        try cell.must(.updateVM(id, shared("root"), generation: nil))
        let left = try remains(cell)
        #expect(left.map { $0.leaving.map(\.name) } == [["data"]] && left.map { $0.kept.map(\.name) } == [["kept"]])
        #expect(left[0].vm == id && left[0].epoch == 1)
        // Whoever is to remove the file may be slow: the name never comes again.
        guard
            case .invalid(let field, let why) = try cell.refusal(.updateVM(id, shared("root", "data"), generation: nil))
        else {
            Issue.record("its file goes")
            return
        }
        #expect(field == "disks" && why.contains("another name"))
        try cell.must(.dropRemains([.init(id, left[0].leaving)]))
        #expect(try cell.refusal(.updateVM(id, shared("root", "data"), generation: nil)) != nil)
        // One that was kept may come back, and is nobody's remains then.
        try cell.must(.updateVM(id, shared("root", "kept", kept: ["kept"]), generation: nil))
        #expect(try remains(cell).isEmpty)
        try cell.must(.updateVM(id, shared("root"), generation: nil))
        // What it leaves in the end comes to what it left before.
        try cell.must(.deleteVM(id, generation: nil))
        let all = try remains(cell)
        #expect(all.map { $0.kept.map(\.name) } == [["kept"]] && all.map { $0.leaving.map(\.name) } == [["root"]])
    }

    @Test func `a VM that never ran leaves nothing, and its disks may change as they like`() throws {
        var cell = try cell()
        let id = try cell.create("a", shared("root", "data"))
        try cell.must(.updateVM(id, shared("root"), generation: nil))
        try cell.must(.updateVM(id, shared("root", "data"), generation: nil))
        #expect(try remains(cell).isEmpty && cell.vm(id).droppedDisks.isEmpty)
    }

    @Test func `the names of dropped disks go along to another cell, and have a bound`() throws {
        var cells = [try cell(1), try cell(2)]
        let id = try stopped(&cells[0], shared("d0"))
        for i in 1...CellLimits.droppedDisksMax {
            try cells[0].must(.updateVM(id, shared("d\(i)"), generation: nil))
        }
        guard case .invalid(_, let why) = try cells[0].refusal(.updateVM(id, shared("more"), generation: nil)) else {
            Issue.record("there is a bound")
            return
        }
        #expect(why.contains("make another VM"))
        #expect(try remains(cells[0])[0].disks.count == CellLimits.droppedDisksMax)
        try cells[0].must(.moveVM(id, to: 2, request: []))
        guard case .move(_, let move?)? = try cells[0].rows(.all(.moves)).first else { return }
        try cells[1].must(.prepareArrival(move.preparation(of: try cells[0].vm(id), from: 1)))
        #expect(try cells[1].vm(id).droppedDisks.count == CellLimits.droppedDisksMax)
    }

    @Test func `a disk that was made stays of its image, and one that was not may change`() throws {
        var cell = try cell()
        guard case .vm(let vm)? = try create(&cell, "a", "debian", at: 5) else {
            Issue.record("nothing is in the way")
            return
        }
        func update() throws -> CellResult.Outcome {
            let command = CellCommand(by: "test", imagesAt: LogIndex(5), .updateVM(vm, begins("suse"), generation: nil))
            return try cell.apply([command])[0].outcome
        }
        #expect(try update() == .done)
        try cell.place(vm, on: 11)
        let command = CellCommand(by: "test", imagesAt: LogIndex(5), .updateVM(vm, begins("debian"), generation: nil))
        guard case .refused(.invalid(let field, let why)) = try cell.apply([command])[0].outcome else {
            Issue.record("its disk is of suse")
            return
        }
        #expect(field == "disks" && why.contains("give a disk of that image another name"))
    }

    @Test func `events older than the setting says go with the garbage, and who missed them is told`() throws {
        var cell = try cell()
        let id = try cell.create("a", CellBench.spec())
        #expect(try cell.refusal(.setSetting(.eventLifetime, 1_000)) == .settingOutOfRange(.eventLifetime))
        try cell.must(.setSetting(.eventLifetime, 3_600_000))
        cell.time = cell.time.advanced(by: 3_000_000)
        try cell.must(.deleteVM(id, generation: nil))
        try cell.must(.collectGarbage)
        func kinds() throws -> [String] {
            guard
                case .events(let events, _) = try Cell.read(
                    .events(after: .zero, vm: nil, host: nil, limit: 0), cell.state
                ).body
            else { return [] }
            return events.map(\.kind)
        }
        #expect(try kinds().contains("vm.created"))
        cell.time = cell.time.advanced(by: 700_000)
        try cell.must(.collectGarbage)
        #expect(try !kinds().contains("vm.created") && kinds().contains("vm.deleted"))
        let early = try Cell.read(
            .events(after: Revision(index: LogIndex(1), slot: 0), vm: nil, host: nil, limit: 0), cell.state)
        guard case .compacted = early.body else {
            Issue.record("it missed something: \(early.body)")
            return
        }
    }
}
