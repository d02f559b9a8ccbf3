import ClusterBase
import Controllers
import FleetModel
import Testing

@Suite struct ImageRemovalsTests {
    private func image(_ name: String, _ removal: UInt64) -> RootImage {
        var image = RootImage(tenant: "t", name: name, sha256: [UInt8](repeating: 1, count: 32), size: 1)
        (image.isLeaving, image.removal) = (removal != 0, removal)
        return image
    }

    @Test func `a removal that nobody ends is called off once its time is over, and each has a time of its own`() {
        var removals = ImageRemovals()
        var now = Instant.origin + .seconds(5)
        #expect(removals.step([image("a", 7), image("b", 0)], now: now).isEmpty)
        now = now + .seconds(60)
        #expect(removals.step([image("a", 7), image("b", 9)], now: now).isEmpty)
        now = now + .seconds(60)
        #expect(
            removals.step([image("a", 7), image("b", 9)], now: now)
                == [.removeImage(tenant: "t", name: "a", .cancel, removal: 7)])
        // What got lost is said again, and not at every look.
        #expect(removals.step([image("a", 7)], now: now + .seconds(1)).isEmpty)
        #expect(removals.step([image("a", 7)], now: now + ImageRemovals.patience).count == 1)
        // Another removal of the same image begins anew, and so does a new leader.
        #expect(removals.step([image("a", 8)], now: now + .seconds(300)).isEmpty)
        removals.forget()
        #expect(removals.step([image("a", 8)], now: now + .seconds(900)).isEmpty)
    }
}
