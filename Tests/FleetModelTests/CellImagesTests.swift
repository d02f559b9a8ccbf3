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

    @Test func `a VM comes from no other cell while its image may be in the midst of a removal`() throws {
        var cells = [try cell(1), try cell(2)]
        guard case .vm(let id)? = try create(&cells[0], "a", "debian", at: 5) else { return }
        try cells[0].must(.moveVM(id, to: 2, request: []))
        guard case .move(_, let move?)? = try cells[0].rows(.all(.moves)).first else { return }
        let preparation = CellCommand.Operation.prepareArrival(
            move.preparation(of: try cells[0].vm(id), from: 1))
        try cells[1].must(.releaseImage(tenant: "", name: "debian", at: LogIndex(9)))
        #expect(try cells[1].refusal(preparation) == .notKeptYet(id))
        #expect(try cells[1].find(id) == nil, "who looks for it there now has seen all that will be there")
        cells[1].time = cells[1].time.advanced(by: CellLimits.imageReleaseTime)
        #expect(try cells[1].refusal(preparation) == .notKeptYet(id))
        #expect(try cells[1].find(id) != nil, "now it is kept, and waits for a place")
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
        for _ in 0..<2 { try cell.must(.dropRemains([id])) }
        #expect(try remains(cell).isEmpty)
        // One that never had a place wrote nothing.
        let never = try cell.create("b", begins(""))
        try cell.must(.deleteVM(never, generation: nil))
        #expect(try remains(cell).isEmpty)
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
