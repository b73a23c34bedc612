"""The built-in services.

Gathered in November 2026 from the services' own pages. A profile maps or leaves out what its service
refuses. Addresses, codes and names change within a year; `services.yaml` can override all of it.
"""

from __future__ import annotations

from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.services.profile import (
    CHAT,
    CHAT_EMBEDDINGS,
    CREDIT_CODES,
    ONLINE_AND_BATCH,
    Profile,
)

# Fields of open-source servers, which strict services answer with 400 for every record.
_FOREIGN = ("enable_thinking", "chat_template_kwargs", "continue_final_message", "add_generation_prompt")

# An OpenAI-compatible server that nothing more is known of: everything is sent as it is.
# `backend: batch` tries its Batch API; `auto` does not.
GENERIC = Profile(
    name="openai-compatible",
    batch=BatchApi(max_bytes=100_000_000, windows=("24h", "90d"), window_max_h=2160),  # it says no itself
    model_codes=("model_not_found", "NotFoundError"),
)

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="test",
            embedded=True,
            model="test-model",
            backends=ONLINE_AND_BATCH,
            batch=BatchApi(poll_first_s=0.1, poll_max_s=2.0, poll_min_s=0.05, settle_s=10.0, cancel_s=60.0),
        ),
        Profile(
            name="openai",
            prices="openai",
            base_url="https://api.openai.com/v1",
            default_path="/v1",
            hosts=("api.openai.com",),
            variable="OPENAI_API_KEY",
            backends=ONLINE_AND_BATCH,
            batch=BatchApi(creates_per_hour=2_000),
            thinking="omit",
            rename={"max_tokens": "max_completion_tokens"},  # o-series and gpt-5 refuse the old name
            omit=_FOREIGN,
            omit_empty=("stop",),  # its schema wants 1 to 4 items
        ),
        Profile(
            name="azure",
            prices="azure",
            base_url="${AZURE_OPENAI_ENDPOINT}",  # https://NAME.openai.azure.com; the model is the deployment
            default_path="/openai/v1",
            hosts=(".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
            auth="api-key",
            variable="AZURE_OPENAI_API_KEY",
            backends=ONLINE_AND_BATCH,
            batch=BatchApi(
                urls={"chat": "/chat/completions", "responses": "/v1/responses"},
                max_requests=100_000,
                poll_first_s=60.0,
                poll_max_s=120.0,
                poll_min_s=60.0,
                models_path=None,  # it lists base models; what a config names is a deployment
            ),
            thinking="omit",
            rename={"max_tokens": "max_completion_tokens"},
            omit=_FOREIGN,
            omit_empty=("stop",),
            model_codes=("DeploymentNotFound", "model_not_found"),
        ),
        Profile(
            name="dashscope",
            base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
            default_path="/compatible-mode/v1",
            hosts=("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com", ".maas.aliyuncs.com"),
            variable="DASHSCOPE_API_KEY",
            backends=ONLINE_AND_BATCH,
            batch=BatchApi(
                urls={"chat": "/v1/chat/completions", "embeddings": "/v1/embeddings"},
                model_urls={"batch-test-model": "/v1/chat/ds-test"},  # free of charge, answers at once
                max_bytes=500_000_000,
                windows=("24h", "336h"),
                window_max_h=336,
                title_key="ds_name",
                files_query={"purpose": "batch"},
            ),
            paths=CHAT_EMBEDDINGS,
            # Not insufficient_quota: that is a rate limit here.
            credit_codes=(
                "Arrearage",
                "AllocationQuota.FreeTierOnly",
                "CommodityNotPurchased",
                "PrepaidBillOverdue",
                "PostpaidBillOverdue",
            ),
            model_codes=("model_not_found", "ModelNotFound", "Model.AccessDenied"),
        ),
        Profile(
            name="bigmodel",
            base_url="https://open.bigmodel.cn/api/paas/v4",
            default_path="/api/paas/v4",
            hosts=("open.bigmodel.cn", "api.z.ai"),
            variable="ZHIPUAI_API_KEY",
            backends=ONLINE_AND_BATCH,
            batch=BatchApi(
                urls={"chat": "/v4/chat/completions", "embeddings": "/v4/embeddings"},
                max_requests_of={"embeddings": 10_000},
                max_bytes=100_000_000,
                files_query={"purpose": "batch"},
                create_extra={"auto_delete_input_file": False},  # we delete it once the batch is collected
                min_id=6,
            ),
            paths=CHAT_EMBEDDINGS,
            thinking="type",
            credit_codes=("1113", "1304", "1308", "1309", "1310", "1316", "1317"),
            model_codes=("1211", "1220", "1222"),
        ),
        Profile(
            name="deepseek",
            prices="deepseek",
            base_url="https://api.deepseek.com/v1",
            default_path="/v1",
            hosts=("api.deepseek.com",),
            variable="DEEPSEEK_API_KEY",
            paths=CHAT,
            thinking="type",
            credit_codes=(*CREDIT_CODES, "insufficient balance"),
            model_codes=("model_not_found", "model not exist"),
        ),
        Profile(
            name="moonshot",
            prices="moonshotai",
            base_url="https://api.moonshot.cn/v1",
            default_path="/v1",
            hosts=("api.moonshot.cn", "api.moonshot.ai"),
            variable="MOONSHOT_API_KEY",
            paths=CHAT,
            thinking="type",
            credit_codes=(*CREDIT_CODES, "exceeded_current_quota_error"),
            model_codes=("resource_not_found_error", "model_not_found"),
        ),
        Profile(
            name="groq",
            prices="groq",
            base_url="https://api.groq.com/openai/v1",
            default_path="/openai/v1",
            hosts=("api.groq.com",),
            variable="GROQ_API_KEY",
            backends=ONLINE_AND_BATCH,
            batch=BatchApi(
                urls={"chat": "/v1/chat/completions"},
                max_bytes=100_000_000,  # its pages say 200 MB, its API reference 100 MB
                windows=("24h", "7d"),
                window_max_h=168,
                files_query={},
            ),
            paths=CHAT | {"responses": "/responses"},
            thinking="omit",
            omit=_FOREIGN,
            credit_codes=(*CREDIT_CODES, "blocked_api_access"),
            model_codes=("model_not_found", "model_decommissioned"),
        ),
        Profile(
            name="together",
            prices="together",
            base_url="https://api.together.ai/v1",
            default_path="/v1",
            hosts=("api.together.ai", "api.together.xyz"),
            variable="TOGETHER_API_KEY",
            backends=ONLINE_AND_BATCH,
            batch=BatchApi(
                urls={"chat": "/v1/chat/completions"},
                upload_path="/files/upload",
                purpose="batch-api",
                upload_extra={"file_name": "{filename}", "file_type": "jsonl"},
                files_query={},
                bare_lines=True,
                max_bytes=100_000_000,
                metadata=False,
            ),
            thinking="reasoning",
            model_codes=("model_not_found", "model_not_available"),
        ),
        Profile(
            name="mistral",
            prices="mistral",
            base_url="https://api.mistral.ai/v1",
            default_path="/v1",
            hosts=("api.mistral.ai",),
            variable="MISTRAL_API_KEY",
            batch_later=True,
            paths=CHAT_EMBEDDINGS,
            thinking="omit",
            omit=_FOREIGN,
            model_codes=("invalid_model", "model_not_found"),
        ),
        Profile(
            name="ollama",
            base_url="http://127.0.0.1:11434/v1",
            default_path="/v1",
            keyless=True,
            thinking="effort",
            model_codes=("model_not_found", "not_found_error", "try pulling it first"),
            max_concurrency=8,  # it answers few at a time and refuses what queues up behind
        ),
        Profile(
            name="vllm",
            base_url="http://127.0.0.1:8000/v1",
            default_path="/v1",
            keyless=True,
            thinking="template",
            model_codes=("NotFoundError", "model_not_found"),
        ),
        Profile(
            name="anthropic",
            base_url="https://api.anthropic.com/v1",
            variable="ANTHROPIC_API_KEY",
            backends=(),
            batch_later=True,
        ),
        Profile(
            name="gemini",
            base_url="https://generativelanguage.googleapis.com/v1beta",
            variable="GEMINI_API_KEY",
            backends=(),
            batch_later=True,
        ),
        Profile(name="bedrock", variable="AWS_BEARER_TOKEN_BEDROCK", backends=(), batch_later=True),
    )
}
