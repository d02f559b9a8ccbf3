import ClusterBase
import FleetModel
import Testing

@Suite struct RootImagesTests {
    private static let hash = [UInt8](repeating: 7, count: 32)

    private func image(_ tenant: String = "shop", _ name: String = "debian", _ holders: [NodeID] = []) -> RootImage {
        RootImage(tenant: tenant, name: name, sha256: Self.hash, size: 300, holders: holders)
    }

    @Test func `an image is a tenant's or everybody's, and its own goes before everybody's`() throws {
        var root = try RootBench()
        #expect(try root.apply(.addImage(image())) == .refused(.malformed), "not before the level is open")
        root.level = FeatureLevel.images
        let node = try root.node("n2")
        #expect(try root.apply(.addImage(image("shop", "debian", [node]))) == .done)
        #expect(try root.apply(.addImage(image(""))) == .done)
        let view = try root.view()
        #expect(view.image("debian", for: "shop")?.tenant == "shop")
        #expect(view.image("debian", for: "bank")?.tenant == "" && view.image("other", for: "bank") == nil)
        #expect(view.image("debian", for: "shop")?.holders == [node])
        #expect(view.image("debian", for: "shop")?.digest == String(repeating: "07", count: 32))
    }

    @Test func `bytes under a name never change, and who keeps them is noted`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.images
        let (one, two) = (try root.node("n2"), try root.node("n3"))
        #expect(try root.apply(.addImage(image("", "debian", [two]))) == .done)
        #expect(try root.apply(.addImage(image("", "debian", [one]))) == .done)
        #expect(try root.view().images.map(\.holders) == [[one, two]])
        var other = image("")
        other.sha256[0] = 8
        #expect(try root.apply(.addImage(other)) == .refused(.imageExists("debian")))
        let wrong = RootCommand.Operation.holdImage(
            tenant: "", name: "debian", sha256: other.sha256, one, isHeld: false)
        #expect(try root.apply(wrong) == .refused(.unknownImage("debian")))
        let gone = RootCommand.Operation.holdImage(tenant: "", name: "debian", sha256: Self.hash, two, isHeld: false)
        #expect(try root.apply(gone) == .done)
        #expect(try root.apply(gone) == .done)
        #expect(try root.view().images.map(\.holders) == [[one]])
        let stranger = NodeID(99)
        #expect(
            try root.apply(.holdImage(tenant: "", name: "debian", sha256: Self.hash, stranger, isHeld: true))
                == .refused(.unknownNode(stranger)))
        #expect(try root.apply(.addImage(image("", "Debian"))) == .refused(.invalid(.name)))
        #expect(
            try root.apply(.addImage(RootImage(tenant: "", name: "x", sha256: [1], size: 1)))
                == .refused(.invalid(.hash)))
        #expect(
            try root.apply(.addImage(RootImage(tenant: "", name: "x", sha256: Self.hash, size: 0)))
                == .refused(.invalid(.size)))
    }

    @Test func `an image that is leaving is cancelled or gone, and not gone without having been leaving`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.images
        #expect(try root.apply(.addImage(image())) == .done)
        func remove(_ step: RootImage.Removal, _ removal: UInt64 = 0) throws -> RootResult.Outcome {
            try root.apply(.removeImage(tenant: "shop", name: "debian", step, removal: removal))
        }
        func removal() throws -> UInt64 { try root.view().images[0].removal }
        #expect(try remove(.finish) == .refused(.imageStays("debian")))
        #expect(try remove(.begin) == .done)
        #expect(try root.view().images.map(\.isLeaving) == [true])
        #expect(try root.apply(.addImage(image())) == .refused(.imageExists("debian")))
        let first = try removal()
        #expect(try remove(.cancel, first) == .done)
        #expect(try remove(.finish, first) == .refused(.imageStays("debian")))
        #expect(try remove(.begin) == .done)
        #expect(try remove(.finish, try removal()) == .done)
        #expect(try root.view().images.isEmpty)
        #expect(try remove(.begin) == .refused(.unknownImage("debian")))
        #expect(try root.apply(.addImage(image())) == .done)
    }

    @Test func `what an earlier removal saw ends no later one, and its end calls off no later one`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.images
        #expect(try root.apply(.addImage(image())) == .done)
        func remove(_ step: RootImage.Removal, _ removal: UInt64 = 0) throws -> RootResult.Outcome {
            try root.apply(.removeImage(tenant: "shop", name: "debian", step, removal: removal))
        }
        func removal() throws -> UInt64 { try root.view().images[0].removal }
        #expect(try remove(.begin) == .done)
        let first = try removal()
        // The leader gives it up for dead; a VM may be let in; somebody removes the image once more.
        #expect(try remove(.cancel, first) == .done)
        #expect(try remove(.begin) == .done)
        let second = try removal()
        #expect(first != second && second != 0)
        #expect(try remove(.finish, first) == .refused(.imageStays("debian")))
        #expect(try remove(.cancel, first) == .done)
        #expect(try root.view().images.map(\.isLeaving) == [true])
        #expect(try remove(.finish, second) == .done)
    }

    @Test func `bytes that are lost are taken again under their name, and nodes that left keep nothing`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.images
        let (one, two) = (try root.node("n2"), try root.node("n3"))
        #expect(try root.apply(.addImage(image("", "debian", [one]))) == .done)
        // Its only keeper has lost it.
        #expect(
            try root.apply(.holdImage(tenant: "", name: "debian", sha256: Self.hash, one, isHeld: false)) == .done)
        #expect(try root.view().images.map(\.holders) == [[]])
        var again = image("", "debian", [two])
        (again.guestBytes, again.isQCOW2) = (700 << 20, true)
        #expect(try root.apply(.addImage(again)) == .done)
        let known = try root.view().images[0]
        #expect(known.holders == [two] && known.diskMiB == 700 && known.isQCOW2)
        #expect(try root.apply(.removeNode(two, isForced: true)) == .node(two))
        #expect(try root.apply(.addImage(image("", "debian", [one]))) == .done)
        #expect(try root.view().images[0].holders == [one])
    }

    @Test func `the size of a disk comes from the first bytes of an image`() {
        var head = [UInt8](repeating: 0, count: ImageHead.byteCount)
        #expect(ImageHead(head, size: 5 << 20) == ImageHead([], size: 5 << 20))
        head.replaceSubrange(0..<8, with: [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3])
        head.replaceSubrange(24..<32, with: [0, 0, 0, 2, 0, 0, 0, 1])
        let disk = ImageHead(head, size: 100)
        #expect(disk.isQCOW2 && disk.guestBytes == 2 << 32 + 1 && !disk.namesOthers)
        head[15] = 1
        #expect(ImageHead(head, size: 100).namesOthers)
        var image = image()
        (image.guestBytes, image.isQCOW2) = (disk.guestBytes, true)
        #expect(image.diskMiB == 8_193, "what is begun counts")
        #expect(RootImage(tenant: "", name: "a", sha256: [], size: 1).diskMiB == 1)
    }
}
