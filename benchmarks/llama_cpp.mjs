// Times a GGUF file in llama.cpp, one prompt after another: node llama_cpp.mjs MODEL < {"prompts": [[ids]], "tokens": n, "threads": n}.
// Prints one JSON object: for each prompt the greedy ids, the seconds to the first of them and to the last.
import {getLlama} from "node-llama-cpp";
import {readFileSync} from "node:fs";

const asked = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: asked.threads});
const model = await llama.loadModel({modelPath: process.argv[2]});
const longest = Math.max(...asked.prompts.map((prompt) => prompt.length));
const context = await model.createContext({contextSize: longest + asked.tokens + 8, threads: asked.threads});
const runs = [];
for (const prompt of asked.prompts) {
    const sequence = context.getSequence();
    const [found, began] = [[], performance.now()];
    let first = 0;
    for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
        found.push(token);
        if (found.length === 1) first = performance.now() - began;
        if (found.length === asked.tokens) break;
    }
    runs.push({ids: found, first_seconds: first / 1000, seconds: (performance.now() - began) / 1000});
    sequence.dispose();
}
console.log(JSON.stringify(runs));
process.exit(0);
