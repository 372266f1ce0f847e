// Runs a GGUF file in llama.cpp: node llama_cpp.mjs MODEL < {"prompts": [[ids]], "texts": [], "talks": [], "tokens": n}.
// Prints one JSON object: greedy continuations of the prompts, the ids of the texts by its own tokenizer, and the
// ids of the talks by its own template engine and tokenizer from the template inside the file.
import {getLlama} from "node-llama-cpp";
import {text} from "node:stream/consumers";

const asked = JSON.parse(await text(process.stdin));
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
// llama.cpp's common/jinja, which llama-server renders with; the chat wrappers of node-llama-cpp come on top of it.
const template = new llama._bindings.AddonJinjaRenderer(model.fileInfo.metadata.tokenizer.chat_template);
const talks = asked.talks.map(({messages, tools}) => {
    const variables = {messages, add_generation_prompt: true, ...(tools.length ? {tools} : {})};
    return model.tokenize(template.render(variables), true);
});
process.stdout.write(JSON.stringify({continuations, ids, talks}) + "\n", () => process.exit(0));
