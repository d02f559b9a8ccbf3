import AdminAPI
import FleetCommands
import Testing

@Suite struct LabelSelectorTests {
    @Test func `a selector is the filter that means the same`() throws {
        let known = [
            "app=web": "label.app=web", "app==web,env!=dev": "label.app=web and label.env!=dev",
            "env in (a, b),tier notin (x)": "label.env in (a,b) and label.tier not in (x)",
            "gpu,!old": "label.gpu and not label.old", "note=two words": "label.note=\"two words\"",
            "example.com/app = web": "label.example.com/app=web",
        ]
        for selector in known.keys.sorted() {
            let filter = try #require(LabelSelector.filter(selector))
            #expect(filter == known[selector])
            #expect(throws: Never.self, "\(filter)") {
                _ = try FilterExpression(filter, fields: [FilterField("label", .map)])
            }
        }
    }

    @Test(arguments: ["", "=a", "a b", "a in", "a in b", "a in (b", "a)b", "a=\"", ",", "a like (b)"])
    func `what is no selector is refused`(text: String) { #expect(LabelSelector.filter(text) == nil) }
}
