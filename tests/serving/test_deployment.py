"""What is written to run a server elsewhere: right, bounded, and without anything secret."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from modelwright.cli.main import main
from modelwright.errors import RequestError
from modelwright.recipe.reading import load_settings
from modelwright.serving.config import Answers, ModelSpec, ServeConfig, as_replica
from modelwright.serving.deployment import FORMS, dns_label, write_deployment
from tests.serving.running import serving

LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
IMAGE = {"Dockerfile", ".dockerignore", "constraints.txt", "serve.yaml", "models"}
KINDS = ["Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"]


def load_all(path):
    return list(YAML(typ="safe", pure=True).load_all(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def written(models, tmp_path_factory):
    """Return the folders of each form, of a server of images and texts."""
    folders = {}
    files = [str(models / name / "model.mw") for name in ("images", "texts")]
    for form in FORMS:
        folders[form] = tmp_path_factory.mktemp("deployment") / form
        words = ["--write-deployment", form, "--out", str(folders[form])]
        assert main(["serve", *files, *words, "--store", "postgresql://me:hunter2@db/keys"]) == 0
    return folders


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_the_image_and_one_file_more(written, form, models, capsys):
    assert {path.name for path in written[form].iterdir()} == {*IMAGE, FORMS[form]}
    assert len(list((written[form] / "models").iterdir())) == 2
    words = ["--write-deployment", form, "--out", str(written[form]), "--json"]
    files = [str(models / name / "model.mw") for name in ("images", "texts")]
    assert main(["serve", *files, *words]) == 0  # The same again is no other file.
    listed = {Path(line) for line in json.loads(capsys.readouterr().out)}
    assert listed == {path for path in written[form].rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMS)
def test_no_file_holds_the_address_of_the_store(written, form):
    for path in written[form].rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"hunter2" not in data
            assert b"@db" not in data


@pytest.mark.parametrize("form", FORMS)
def test_the_settings_are_read_again_and_name_the_copies(written, form):
    config = load_settings(written[form] / "serve.yaml", ServeConfig)
    assert [spec.name for spec in config.models] == ["images", "texts"]
    assert [spec.workers for spec in config.models] == [1, 1]
    assert all((written[form] / spec.path).is_file() for spec in config.models)
    assert (config.host, config.store) == ("0.0.0.0", None)
    assert config.drain_s == (1.0 if form == "docker" else 10.0)


def test_what_is_written_serves(written, tmp_path):
    folder = tmp_path / "image"
    shutil.copytree(written["docker"], folder)
    settings = (folder / "serve.yaml").read_text()
    with serving(folder, "--host", "127.0.0.1", settings=settings) as server:
        answer = server.client.post("/v1/models/texts:predict", json={"input": "the cat sat"})
        assert answer.status_code == 200


def test_without_a_key_the_server_of_an_image_does_not_start(written, tmp_path, capsys):
    words = ["--port", "0", "--store", str(tmp_path / "keys.db")]
    assert main(["serve", "--config", str(written["docker"] / "serve.yaml"), *words]) == 2
    assert "keys create" in capsys.readouterr().err


def test_the_dockerfile_keeps_to_the_rules(written):
    text = (written["docker"] / "Dockerfile").read_text()
    lines = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line and line[0] != "#"]
    steps = [tuple(line.split(maxsplit=1)) for line in lines]
    assert not {name for name, _ in steps} & {"ADD", "SHELL", "MAINTAINER", "ARG"}
    for name, rest in steps:
        if name == "FROM":
            assert re.match(r"python:3\.\d+-slim( AS \w+)?$", rest)
        if name in ("ENTRYPOINT", "CMD"):
            json.loads(rest)
        if name == "HEALTHCHECK":
            assert json.loads(rest.partition(" CMD ")[2])[0] == "python"
        if name == "WORKDIR":
            assert rest.startswith("/")
        if name == "ENV":
            assert not re.search("(?i)pepper|secret|token|passw|_store", rest)
        if "pip install" in rest:
            assert "--no-cache-dir" in rest
            assert "-c constraints.txt" in rest
            assert "[serve,text]" in rest
        assert not re.search(r"\b(curl|wget|sudo|apt-get)\b", rest)
    users = [rest for name, rest in steps if name == "USER"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1])
    assert steps[-1] == ("CMD", '["serve", "--config", "/app/serve.yaml"]')
    pinned = (written["docker"] / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", line) for line in pinned)


def test_only_named_files_come_into_the_image(written):
    rules = (written["docker"] / ".dockerignore").read_text().splitlines()[1:]
    assert rules[0] == "*"
    assert {rule.lstrip("!") for rule in rules[1:]} == IMAGE - {"Dockerfile", ".dockerignore"} | {
        "modelwright*.whl"
    }


def test_compose_runs_it_on_a_file_system_that_it_only_reads(written):
    (compose,) = load_all(written["docker"] / "compose.yaml")
    server = compose["services"]["server"]
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert server["security_opt"] == ["no-new-privileges:true"]
    assert server["ports"] == ["127.0.0.1:8000:8000"]
    assert int(server["stop_grace_period"].rstrip("s")) > 30


def test_the_objects_of_kubernetes_are_what_its_schemas_ask_for(written):
    validator = pytest.importorskip("kubernetes_validate")
    for item in load_all(written["kubernetes"] / "kubernetes.yaml"):
        validator.validate(item, validator.latest_version(), strict=True)


def test_pods_may_do_nothing_that_they_do_not_need(written):
    items = {item["kind"]: item for item in load_all(written["kubernetes"] / "kubernetes.yaml")}
    assert list(items) == KINDS
    pod = items["Deployment"]["spec"]["template"]["spec"]
    (service,) = load_all(written["kserve"] / "inferenceservice.yaml")
    for spec, grace_s in ((pod, 50), (service["spec"]["predictor"], 50)):
        (container,) = spec["containers"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["terminationGracePeriodSeconds"] == grace_s  # 10 to leave, 30 a request.
        assert set(container["resources"]) == {"requests", "limits"}
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
        secrets = [
            entry["valueFrom"]["secretKeyRef"]["name"]
            for entry in container["env"]
            if "valueFrom" in entry
        ]
        assert secrets == ["images-store"] * 2
    labels = items["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert items["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert items["Service"]["spec"]["selector"] == labels
    assert items["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert items["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert items["NetworkPolicy"]["spec"]["ingress"] == [
        {"ports": [{"protocol": "TCP", "port": "http"}]}
    ]


def test_the_inference_service_is_what_kserves_models_ask_for(written):
    kserve = pytest.importorskip("kserve")
    kubernetes = pytest.importorskip("kubernetes.client")

    def check(value, kind, place):
        if found := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
            assert isinstance(value, list), place
            for item in value:
                check(item, found[1], place)
        elif found := re.fullmatch(r"[Dd]ict[(\[]str, (.*)[)\]]", kind):
            for item in value.values():
                check(item, found[1], place)
        elif kind in ("str", "int", "bool"):
            assert type(value).__name__ == kind, place
        elif kind not in ("object", "ResourceQuantity"):
            model = getattr(kserve, kind, None) or getattr(kubernetes, kind)
            kinds = {model.attribute_map[key]: of for key, of in model.openapi_types.items()}
            assert set(value) <= set(kinds), place
            for key, item in value.items():
                check(item, kinds[key], f"{place}.{key}")

    (service,) = load_all(written["kserve"] / "inferenceservice.yaml")
    check(service, "V1beta1InferenceService", "")
    container = service["spec"]["predictor"]["containers"][0]
    assert {"name": "PROTOCOL", "value": "v2"} in container["env"]


@given(st.text(max_size=80))
def test_every_name_becomes_a_label(name):
    label = dns_label(name)
    assert LABEL.fullmatch(f"{label}-store")
    assert label == name or dns_label(f"{name}x") != label


def test_names_that_differ_have_labels_that_differ():
    names = ["My Model", "my model", "my-model", "狗", "猫", "", "-", "9", "a" * 41, "a" * 42]
    assert len({dns_label(name) for name in names}) == len(names)


HOSTILE = [
    'a"\n---\nkind: Secret\n#',
    "x: {y: [",
    "\u2028&anchor *alias !!python/object",
    "${HOME} $(id) `id` {{ 7 * 7 }}",
    "no",
    "1e3",
    "null",
    "true",
    "\U0001f408\x85\x7f",
    " - ",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_a_name(name, models, tmp_path):
    name = re.sub("[/:?#]", "-", name)
    path = str(models / "texts" / "model.mw")
    spec = ModelSpec(path=path, name=name, answers=Answers(top=1))
    for form in FORMS:
        write_deployment(ServeConfig(models=(spec,)), form, tmp_path / form)
        config = load_settings(tmp_path / form / "serve.yaml", ServeConfig)
        assert [spec.name for spec in config.models] == [name]
        assert config.models[0].answers.top == 1
        items = load_all(tmp_path / form / FORMS[form])
        assert len(items) == (5 if form == "kubernetes" else 1)
        for item in items if form != "docker" else ():
            assert LABEL.fullmatch(item["metadata"]["name"])
        for file in {*IMAGE, FORMS[form]} - {"models", "serve.yaml"}:
            assert "kind: Secret" not in (tmp_path / form / file).read_text()


def test_a_hostile_path_stays_a_path(models, tmp_path, monkeypatch):
    folder = tmp_path / 'run"\n---\nkind: Secret'
    folder.mkdir()
    shutil.copy(models / "texts" / "model.mw", folder / "model.mw")
    monkeypatch.chdir(tmp_path)
    assert main(["serve", str(folder / "model.mw"), "--write-deployment", "kubernetes"]) == 0
    (made,) = tmp_path.glob("*-kubernetes")
    assert LABEL.fullmatch(made.name)
    assert [item["kind"] for item in load_all(made / "kubernetes.yaml")] == KINDS


@pytest.mark.parametrize("file", ["Dockerfile", "serve.yaml", "kubernetes.yaml"])
def test_another_file_is_never_overwritten(models, tmp_path, capsys, file):
    (tmp_path / file).write_text("mine")
    words = ["serve", str(models / "texts" / "model.mw"), "--write-deployment", "kubernetes"]
    assert main([*words, "--out", str(tmp_path)]) == 2
    assert "another file is here" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_another_model_is_never_overwritten(models, tmp_path):
    config = ServeConfig(models=(ModelSpec(path=str(models / "texts" / "model.mw")),))
    *_, copy = write_deployment(config, "docker", tmp_path)
    copy.write_bytes(b"mine")
    with pytest.raises(RequestError, match="another file"):
        write_deployment(config, "docker", tmp_path)
    assert copy.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("tls: {certificate: a.pem, key: b.pem}", "`tls`"),
        ("audit: {path: log, key: key}", "`audit`"),
        ("tokens: {issuer: i, audience: a, jwks: keys.json}", "`tokens.jwks`"),
        ("auth: false", "--no-auth"),
        ("port: 80", "1024"),
    ],
)
def test_what_works_on_this_machine_alone_is_refused(models, tmp_path, capsys, settings, words):
    config = tmp_path / "serve.yaml"
    config.write_text(settings)
    out = ["--write-deployment", "kserve", "--out", str(tmp_path / "out")]
    asked = ["serve", str(models / "texts" / "model.mw"), "--config", str(config), *out]
    assert main(asked) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_makes_no_sense_is_refused(models, tmp_path, capsys):
    model = str(models / "texts" / "model.mw")
    assert main(["serve", model, "--out", str(tmp_path)]) == 2
    assert "--write-deployment" in capsys.readouterr().err
    assert main(["serve", "--write-deployment", "docker"]) == 2
    assert main(["serve", model, "--write-deployment", "heroku"]) == 2
    broken = tmp_path / "broken.mw"
    broken.write_bytes(b"PK no model")
    assert main(["serve", str(broken), "--write-deployment", "docker"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mw"]


def test_a_sealed_model_stays_sealed_and_its_identity_outside(models, tmp_path, monkeypatch):
    pytest.importorskip("pyrage")
    identity, sealed = tmp_path / "me.age", tmp_path / "texts.mw.age"
    assert main(["identity", "create", str(identity)]) == 0
    model = str(models / "texts" / "model.mw")
    recipient = re.search("age1[0-9a-z]+", identity.read_text())[0]
    assert main(["seal", model, "--to", recipient, "--out", str(sealed)]) == 0
    monkeypatch.setenv("MODELWRIGHT_IDENTITY", str(identity))
    for form in FORMS:
        out = tmp_path / form
        assert main(["serve", str(sealed), "--write-deployment", form, "--out", str(out)]) == 0
        (copy,) = (out / "models").iterdir()
        assert copy.read_bytes() == sealed.read_bytes()
        text = (out / "Dockerfile").read_text()
        assert "security" in text.partition("modelwright[")[2].partition("]")[0]
        assert "env:IDENTITY" in (out / FORMS[form]).read_text()
        assert load_all(out / FORMS[form])
        for path in out.rglob("*"):
            assert path.is_dir() or b"AGE-SECRET" not in path.read_bytes()


def test_a_replica_is_open_to_nobody_without_a_key():
    spec = ModelSpec(path="runs/digits/model.mw", workers=3)
    config = as_replica(ServeConfig(models=(spec, ModelSpec(path="b.mw"))))
    assert [(spec.name, spec.workers) for spec in config.models] == [("digits", 3), ("b", 1)]
    assert config.host == "0.0.0.0"
    tokens = {"issuer": "i", "audience": "a", "jwks": "https://id.example/keys"}
    assert as_replica(ServeConfig.model_validate({"models": (spec,), "tokens": tokens})).tokens
