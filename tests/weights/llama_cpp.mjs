// Runs a GGUF file in llama.cpp: node llama_cpp.mjs MODEL < {"prompts": [[ids]], "texts": [], "tokens": n}.
// Prints one JSON object: greedy continuations of the prompts, and the ids of the texts by its own tokenizer.
import {getLlama} from "node-llama-cpp";
import {readFileSync} from "node:fs";

const asked = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: process.argv[2]});
const context = await model.createContext({contextSize: 1024, threads: 1});
const continuations = [];
for (const prompt of asked.prompts) {
    const sequence = context.getSequence();
    const found = [];
    for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
        found.push(token);
        if (found.length === asked.tokens) break;
    }
    continuations.push(found);
    sequence.dispose();
}
const ids = asked.texts.map((text) => model.tokenize(text, false));
const template = model.fileInfo.metadata.tokenizer.chat_template;
console.log(JSON.stringify({continuations, ids, template: template.length}));
process.exit(0);
