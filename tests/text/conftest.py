"""The two real tokenizers, each with its markup: Llama 3's own and the embedded model's."""

import sys
from types import SimpleNamespace

import pytest
from transformers import PreTrainedTokenizerFast

from callama.text.render import Renderer
from callama.text.tokenizer import Tokenizer, load_tokenizer
from tests.fetch import embedded_model_dir, llama3_tokenizer_path, llama_models_dir

# As the model's authors wrote it (SmolLM2, tokenizer_config.json), without the default system message.
CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def llama3() -> Tokenizer:
    return load_tokenizer(llama3_tokenizer_path())


@pytest.fixture(scope="session")
def smollm2() -> Tokenizer:
    return load_tokenizer(embedded_model_dir())


@pytest.fixture(scope="session", params=["llama3", "smollm2"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def renderer(tokenizer: Tokenizer) -> Renderer:
    return Renderer(tokenizer)


@pytest.fixture(scope="session")
def meta() -> SimpleNamespace:
    """Meta's own ``Tokenizer``, ``ChatFormat`` and ``RawMessage``, from the unpacked package."""
    sys.path.append(str(llama_models_dir()))
    from llama_models.datatypes import RawMessage
    from llama_models.llama3.chat_format import ChatFormat
    from llama_models.llama3.tokenizer import Tokenizer as MetaTokenizer

    own = MetaTokenizer(llama3_tokenizer_path())
    return SimpleNamespace(tokenizer=own, chat=ChatFormat(own), message=RawMessage)


@pytest.fixture(scope="session")
def transformers_smollm2() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_file=str(embedded_model_dir() / "tokenizer.json"), chat_template=CHATML_TEMPLATE
    )
