"""The service google.pubsub.v1.Publisher."""

from dataclasses import replace
from typing import Any

import grpc
from google.pubsub_v1 import types

from lowtide.local.pubsub import limits, translate
from lowtide.local.pubsub.desk import Desk, answering, now_s, page
from lowtide.local.wire import Protobuf

PublishResponsePb = types.PublishResponse.pb()
ListTopicsResponsePb = types.ListTopicsResponse.pb()
ListTopicSubscriptionsResponsePb = types.ListTopicSubscriptionsResponse.pb()


class Publisher:
    """Answers requests from the state. Each method raises Refusal as the state does."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._state = desk.state

    def handler(self) -> Any:
        """The generic gRPC handler of this service. What is not in it answers UNIMPLEMENTED."""
        answers = {
            "CreateTopic": (self.create_topic, types.Topic),
            "UpdateTopic": (self.update_topic, types.UpdateTopicRequest),
            "Publish": (self.publish, types.PublishRequest),
            "GetTopic": (self.get_topic, types.GetTopicRequest),
            "ListTopics": (self.list_topics, types.ListTopicsRequest),
            "ListTopicSubscriptions": (self.list_topic_subscriptions, types.ListTopicSubscriptionsRequest),
            "DeleteTopic": (self.delete_topic, types.DeleteTopicRequest),
        }
        handlers = {name: answering(self._desk, answer, request) for name, (answer, request) in answers.items()}
        return grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", handlers)

    def create_topic(self, request: Protobuf) -> Protobuf:
        """Raises AlreadyExists."""
        return translate.topic_to(self._state.create_topic(translate.topic_from(request)))

    def update_topic(self, request: Protobuf) -> Protobuf:
        """Change what the mask names."""
        fields = translate.topic_changes(request.update_mask.paths)
        old, wanted = self._state.topic(request.topic.name), translate.topic_from(request.topic)
        changed = replace(old, **{name: getattr(wanted, name) for name in fields})
        return translate.topic_to(self._state.update_topic(changed))

    def publish(self, request: Protobuf) -> Protobuf:
        """Raises ResourceExhausted when the server is full."""
        limits.check_request_bytes(request.ByteSize())
        contents = [translate.content_from(message) for message in request.messages]
        return PublishResponsePb(message_ids=self._state.publish(request.topic, contents, now_s=now_s()))

    def get_topic(self, request: Protobuf) -> Protobuf:
        """A topic's settings."""
        return translate.topic_to(self._state.topic(request.topic))

    def list_topics(self, request: Protobuf) -> Protobuf:
        """A page of a project's topics."""
        topics = {topic.name: topic for topic in self._state.topics(request.project)}
        names, token = page(list(topics), size=request.page_size, token=request.page_token)
        return ListTopicsResponsePb(topics=[translate.topic_to(topics[name]) for name in names], next_page_token=token)

    def list_topic_subscriptions(self, request: Protobuf) -> Protobuf:
        """A page of a topic's subscriptions."""
        subscriptions = self._state.topic_subscriptions(request.topic)
        names, token = page(subscriptions, size=request.page_size, token=request.page_token)
        return ListTopicSubscriptionsResponsePb(subscriptions=names, next_page_token=token)

    def delete_topic(self, request: Protobuf) -> None:
        """Its subscriptions stay."""
        self._state.delete_topic(request.topic)
