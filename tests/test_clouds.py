"""Public Azure, China, US Government and any set of endpoints are values of one type."""

from pathlib import Path

import pytest

from spatiobatch.errors import ConfigurationError
from spatiobatch.settings import ENVIRONMENT_VARIABLE, Settings, load_settings

EXAMPLE = Path(__file__).parent.parent / "deployments" / "azure.example.toml"

EXPECTED = {
    "public": {
        "login": "https://login.microsoftonline.com",
        "arm": "https://management.azure.com",
        "arm_scope": "https://management.azure.com/.default",
        "batch_scope": "https://batch.core.windows.net//.default",
        "storage_scope": "https://storage.azure.com/.default",
        "geocatalog_scope": "https://geocatalog.spatio.azure.com/.default",
    },
    "china": {
        "login": "https://login.chinacloudapi.cn",
        "arm": "https://management.chinacloudapi.cn",
        "arm_scope": "https://management.chinacloudapi.cn/.default",
        "batch_scope": "https://batch.chinacloudapi.cn//.default",
        "storage_scope": "https://storage.azure.com/.default",
        "geocatalog_scope": None,
    },
    "usgovernment": {
        "login": "https://login.microsoftonline.us",
        "arm": "https://management.usgovcloudapi.net",
        "arm_scope": "https://management.core.usgovcloudapi.net/.default",
        "batch_scope": "https://batch.core.usgovcloudapi.net//.default",
        "storage_scope": "https://storage.azure.com/.default",
        "geocatalog_scope": "https://geocatalog.spatio.azure.us/.default",
    },
}


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(EXAMPLE))


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize("cloud", EXPECTED)
def test_the_example_environment_resolves_to_its_clouds_endpoints(cloud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPATIOBATCH_CLOUD", cloud)
    endpoints = load_settings().endpoints
    assert {name: getattr(endpoints, name) for name in EXPECTED[cloud]} == EXPECTED[cloud]


@pytest.mark.usefixtures("example")
def test_china_needs_its_geocatalog_scope_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPATIOBATCH_CLOUD", "china")
    with pytest.raises(ConfigurationError, match="geocatalog_scope"):
        load_settings().endpoints.required_geocatalog_scope()
    monkeypatch.setenv("SPATIOBATCH_GEOCATALOG_SCOPE", "https://geocatalog.example.cn/.default")
    assert load_settings().endpoints.required_geocatalog_scope() == "https://geocatalog.example.cn/.default"


@pytest.mark.usefixtures("example")
def test_local_is_a_set_of_endpoints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPATIOBATCH_ARM_URL", "https://127.0.0.1:4443/")
    monkeypatch.setenv("SPATIOBATCH_CA_FILE", str(tmp_path / "ca.pem"))
    endpoints = load_settings().endpoints
    assert (endpoints.arm, endpoints.ca_file) == ("https://127.0.0.1:4443", tmp_path / "ca.pem")
    assert endpoints.arm_scope == EXPECTED["public"]["arm_scope"]


@pytest.mark.usefixtures("example")
def test_an_environment_variable_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().resource_group == "spatiobatchdemo"
    monkeypatch.setenv("SPATIOBATCH_RESOURCE_GROUP", "other")
    assert load_settings().resource_group == "other"
    assert load_settings().with_(resource_group="third").resource_group == "third"


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SPATIOBATCH_STORAGE_ACCOUNT", "Not-Valid", "storage account"),
        ("SPATIOBATCH_RESOURCE_GROUP", "ends.", "resource group"),
        ("SPATIOBATCH_POOL", "a b", "pool"),
        ("SPATIOBATCH_RESULTS_CONTAINER", "a--b", "blob container"),
        ("SPATIOBATCH_POOL_NODES", "many", "pool_nodes"),
        ("SPATIOBATCH_ARM_URL", "http://127.0.0.1", "https"),
    ],
)
def test_a_setting_that_azure_would_refuse_is_a_configuration_error(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=said):
        load_settings()


def test_without_a_subscription_the_error_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="SPATIOBATCH_SUBSCRIPTION_ID"):
        load_settings()


def test_an_unknown_setting_in_the_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "environment.toml"
    file.write_text('subscription_id = "1"\nresource_grup = "x"\n')
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(file))
    with pytest.raises(ConfigurationError, match="resource_grup"):
        load_settings()


def test_derived_account_names_differ_by_subscription_and_group() -> None:
    names = {
        Settings(subscription_id=subscription, resource_group=group).storage_account_name
        for subscription in ("a", "b")
        for group in ("one", "two")
    }
    assert len(names) == 4
    assert Settings(subscription_id="A", resource_group="ONE").storage_account_name in names
